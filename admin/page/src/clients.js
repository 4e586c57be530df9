// Tables of clients: the consumers of a channel, the publishers of a topic.
import {html} from './html.js'
import {count, moment, since} from './format.js'
import {Tag} from './parts.js'
import {link} from './route.js'
import {SortedTable} from './table.js'

const number = (head, field, title) => ({
  head,
  title,
  n: true,
  sort: field,
  value: (row) => row[field],
  cell: (row) => count(row[field]),
})

const CLIENT = {
  head: 'Client',
  name: true,
  sort: 'name',
  value: (row) => row.hostname || row.client_id,
  cell: (row) =>
    html`${row.client_id || row.hostname || row.remote_address}<span class="sub">${[row.hostname !== row.client_id && row.hostname, row.remote_address].filter(Boolean).join(', ')}</span>`,
}
const AGENT = {
  head: 'Program',
  cell: (row) => html`${row.user_agent || row.protocol}<span class="sub">${settings(row)}</span>`,
}
const CONNECTED = {
  head: 'Connected',
  n: true,
  sort: 'connected_at',
  value: (row) => row.connected_at,
  cell: (row) => html`<span title=${moment(row.connected_at)}>${since(row.connected_at)}</span>`,
}
const NODE = {
  head: 'Node',
  sort: 'node',
  value: (row) => row.node,
  cell: (row) => html`<a class="nowrap" href=${link(['nodes', row.node])}>${row.node}</a>`,
}
const CREDIT = {
  head: 'In flight / credit',
  title: 'Messages delivered and not finished, of as many as the client asked for',
  n: true,
  sort: 'in_flight',
  value: (row) => row.in_flight,
  cell: (row) =>
    html`${count(row.in_flight)} / ${count(row.ready)}${pinned(row) && html`<span class="sub warn">all used</span>`}`,
}

/** Whether a client holds as many messages as it may. */
const pinned = ({in_flight: held, ready}) => ready > 0 && held >= ready

const CONSUMERS = [
  CLIENT,
  AGENT,
  NODE,
  CREDIT,
  number('Finished', 'finished'),
  number('Requeued', 'requeued'),
  number('Delivered', 'messages'),
  CONNECTED,
]

export function Consumers({clients, total}) {
  return html`<${More} shown=${clients.length} total=${total} noun="client" />
    <${SortedTable} caption="Clients" columns=${CONSUMERS} rows=${clients} keyOf=${keyOf} none="No client is connected." />`
}

export function Producers({clients, total, topic}) {
  const publishedTo = (row) => row.published?.find((each) => each.topic === topic)?.count
  const sent = {
    head: 'Published',
    title: 'To this topic, since it connected',
    n: true,
    sort: 'published',
    value: publishedTo,
    cell: (row) => count(publishedTo(row)),
  }
  return html`<${More} shown=${clients.length} total=${total} noun="publisher" />
    <${SortedTable} caption="Publishers" columns=${[CLIENT, AGENT, NODE, sent, CONNECTED]} rows=${clients} keyOf=${keyOf} />`
}

/** Says that a list was cut. */
export function More({shown, total, noun}) {
  if (!(total > shown)) return null
  return html`<p class="soft small">The first ${count(shown)} of ${count(total)} ${noun}s.</p>`
}

const keyOf = ({node, remote_address: address, client_id: id}) => `${node} ${address} ${id}`

/** What a client has agreed with its broker. */
function settings({protocol, tls, compression, sample_rate: sampled, identity, identity_url: url, zone, region}) {
  const place = [region, zone].filter(Boolean).join(' ')
  const who = identity && (isWeb(url) ? html`<a href=${url} rel="noreferrer noopener">${identity}</a>` : identity)
  const words = [protocol, tls || 'no TLS', compression, sampled > 0 && `${sampled}% sampled`, place]
  return html`${words.filter(Boolean).join(', ')}${who && html`, as ${who}`}`
}

/** Links of auth servers lead to the web or nowhere: `javascript:` is an address too. */
const isWeb = (url) => /^https?:\/\//i.test(url ?? '')
