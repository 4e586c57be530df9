// One channel: why it is behind, its clients and nodes, what can be done.
import {useState} from 'preact/hooks'
import {html} from '../html.js'
import {act, actNow} from '../actions.js'
import {Consumers} from '../clients.js'
import {Ask} from '../dialog.js'
import {count, counted} from '../format.js'
import {History} from '../history.js'
import * as numbers from '../numbers.js'
import {Figures, Findings, Head, Part, readAt, State, Tag} from '../parts.js'
import {usePoll} from '../poll.js'
import {go, link} from '../route.js'
import {useMayAct, useMe} from '../session.js'
import {Configure, Settings} from '../settings.js'
import {SortedTable} from '../table.js'

export function Channel({topic, channel, parameters}) {
  const poll = usePoll('data/channel', {topic, channel})
  const {data} = poll
  return html`<${Head} crumbs=${[
    ['Topics', link(['topics'])],
    [topic, link(['topics', topic])],
  ]} title=${channel} poll=${poll}
      tags=${html`${data?.paused && html`<${Tag} kind="warn">paused</${Tag}>`} ${data?.ephemeral && html`<${Tag} title="Gone with its last client">ephemeral</${Tag}>`}`}>
      ${data && html`<${Acts} data=${data} again=${poll.again} />`}
    </${Head}>
    <${State} poll=${poll} />
    ${data && html`<${Body} data=${data} parameters=${parameters} />`}`
}

function Body({data, parameters}) {
  const {topic, channel, findings, clients} = data
  const calm = data.depth === 0 ? 'Nothing waits: consumers keep up.' : 'No trouble so far: a backlog of a minute is none.'
  return html`${
    findings.length > 0
      ? html`<${Part} title="Why it is behind"><${Findings} findings=${findings} /></${Part}>`
      : html`<p class="calm">${calm}</p>`
  }
    <${Figures} label="Figures of the channel" figures=${numbers.summary(data, 'of this channel')} />
    <${History} of=${{topic, channel}} span=${parameters.span} page=${data} />
    <${Part} title="Clients" note=${[counted(data.clients_total, 'client'), readAt(data.clients_at, data.at)].filter(Boolean).join(', ')}><${Consumers} clients=${clients} total=${data.clients_total} /></${Part}>
    <${Part} title="Nodes"><${SortedTable} caption="Nodes" columns=${NODES} rows=${data.nodes} keyOf=${({node}) => node} none="No node has this channel." /></${Part}>
    <${Settings} data=${data} more=${[['Dead letters', deadLetters(data)]]} />`
}

/** Messages that were moved to the dead letter topic, where there are some or may be. */
function deadLetters({dead_letters: moved, nodes}) {
  const isLimited = nodes.some(({settings}) => settings?.max_attempts > 0)
  return moved > 0 || isLimited ? `${counted(moved, 'message')} since the start` : null
}

const NODES = [
  {
    head: 'Node',
    name: true,
    sort: 'node',
    value: (row) => row.node,
    cell: (row) =>
      html`<a href=${link(['nodes', row.node])}>${row.node}</a> ${row.paused && html`<${Tag} kind="warn">paused</${Tag}>`}`,
  },
  numbers.stored,
  numbers.growth,
  numbers.oldest,
  numbers.finished,
  numbers.inFlight,
  numbers.deferred,
  numbers.requeued,
  numbers.timedOut,
  numbers.messages,
  numbers.clients,
  numbers.latency,
]

function Acts({data, again}) {
  const [open, setOpen] = useState(null)
  const {topic, channel, paused} = data
  const mayAct = useMayAct()
  const {can_peek: mayPeek} = useMe()
  const pause = () =>
    actNow(
      {action: paused ? 'unpause_channel' : 'pause_channel', topic, channel},
      `${paused ? 'Unpaused' : 'Paused'} channel ${channel}`,
      again,
    )
  return html`${mayPeek && html`<a class="button" href=${link(['peek', topic], {channel})}>Peek</a>`}
    ${
      mayAct &&
      html`<button type="button" onClick=${pause}>${paused ? 'Unpause' : 'Pause'}</button>
      ${data.nodes.some(({settings}) => settings) && html`<button type="button" onClick=${() => setOpen('configure')}>Settings…</button>`}
      <button type="button" class="risk" onClick=${() => setOpen('empty')}>Empty…</button>
      <button type="button" class="risk" onClick=${() => setOpen('delete')}>Delete…</button>`
    }
    ${open === 'configure' && html`<${Configure} data=${data} again=${again} onClose=${() => setOpen(null)} />`}
    ${(open === 'empty' || open === 'delete') && html`<${Destroy} data=${data} isDelete=${open === 'delete'} again=${again} onClose=${() => setOpen(null)} />`}`
}

/** Asks before the channel is emptied or deleted. */
function Destroy({data, isDelete, again, onClose}) {
  const {topic, channel, depth, in_flight: held, deferred, clients_total: clients, nodes} = data
  const run = async () => {
    const action = isDelete ? 'delete_channel' : 'empty_channel'
    await act({action, topic, channel}, `${isDelete ? 'Deleted' : 'Emptied'} channel ${channel}`)
    if (isDelete) go(link(['topics', topic]))
    else again()
  }
  const lost = [`${counted(depth, 'message')} that wait, ${count(held)} in flight and ${count(deferred)} deferred`]
  if (isDelete) lost.push(`the place of ${counted(clients, 'client')}, which will be disconnected`)
  const [verb, title] = isDelete ? ['Delete the channel', 'Delete'] : ['Empty the channel', 'Empty']
  return html`<${Ask} title=${`${title} channel ${channel} of ${topic}`} verb=${verb} risk name=${channel} run=${run} onClose=${onClose} lost=${lost}>
    <p>On ${counted(nodes.length, 'node')}. Other channels of the topic keep what they hold.</p>
  </${Ask}>`
}
