// One topic: why it is behind, its channels and nodes, what can be done.
import {useState} from 'preact/hooks'
import {html} from '../html.js'
import {act, actNow} from '../actions.js'
import {More, Producers} from '../clients.js'
import {CreateChannel} from '../create.js'
import {Ask} from '../dialog.js'
import {bytes, count, counted} from '../format.js'
import {History} from '../history.js'
import * as numbers from '../numbers.js'
import {Figures, Findings, Head, Part, State, Tag, Worst} from '../parts.js'
import {usePoll} from '../poll.js'
import {Publish} from '../publish.js'
import {go, link} from '../route.js'
import {useMayAct, useMe} from '../session.js'
import {Configure, Settings} from '../settings.js'
import {SortedTable} from '../table.js'

export function Topic({topic, parameters}) {
  const poll = usePoll('data/topic', {topic})
  const {data} = poll
  return html`<${Head} crumbs=${[['Topics', link(['topics'])]]} title=${topic} poll=${poll}
      tags=${html`${data?.paused && html`<${Tag} kind="warn">paused</${Tag}>`} ${data?.ephemeral && html`<${Tag} title="Gone with its last channel">ephemeral</${Tag}>`}`}>
      ${data && html`<${Acts} data=${data} again=${poll.again} />`}
    </${Head}>
    <${State} poll=${poll} />
    ${data && html`<${Body} data=${data} parameters=${parameters} again=${poll.again} />`}`
}

function Body({data, parameters, again}) {
  const {topic, findings, producers = []} = data
  return html`${findings.length > 0 && html`<${Part} title="Trouble"><${Findings} findings=${findings} /></${Part}>`}
    <${Figures} label="Figures of the topic" figures=${[
      ...numbers.summary(data),
      ['In no channel', count(data.own_depth), 'messages before any channel'],
      ['Bytes', bytes(data.bytes), 'published since the start'],
    ]} />
    <${History} of=${{topic}} span=${parameters.span} page=${data} />
    <${Channels} data=${data} again=${again} />
    <${Nodes} data=${data} again=${again} />
    <${Settings} data=${data} />
    ${producers.length > 0 && html`<${Part} title="Publishers"><${Producers} clients=${producers} total=${data.producers_total} topic=${topic} /></${Part}>`}`
}

function Acts({data, again}) {
  const [open, setOpen] = useState(null)
  const {topic, paused} = data
  const mayAct = useMayAct()
  const {can_peek: mayPeek} = useMe()
  const close = () => setOpen(null)
  const dialogs = {publish: Publish, configure: Configure, empty: Empty, delete: Delete}
  const Open = dialogs[open]
  const pause = () =>
    actNow({action: paused ? 'unpause_topic' : 'pause_topic', topic}, `${paused ? 'Unpaused' : 'Paused'} topic ${topic}`, again)
  return html`${mayPeek && html`<a class="button" href=${link(['peek', topic])}>Peek</a>`}
    ${
      mayAct &&
      html`<button type="button" onClick=${() => setOpen('publish')}>Publish…</button>
      <button type="button" onClick=${pause}>${paused ? 'Unpause' : 'Pause'}</button>
      ${data.nodes.some(({settings}) => settings) && html`<button type="button" onClick=${() => setOpen('configure')}>Settings…</button>`}
      <button type="button" class="risk" onClick=${() => setOpen('empty')}>Empty…</button>
      <button type="button" class="risk" onClick=${() => setOpen('delete')}>Delete…</button>`
    }
    ${Open && html`<${Open} data=${data} again=${again} onClose=${close} />`}`
}

function Empty({data, again, onClose}) {
  const {topic, own_depth: waiting} = data
  const run = async () => {
    await act({action: 'empty_topic', topic}, `Emptied topic ${topic}`)
    again()
  }
  return html`<${Ask} title=${`Empty topic ${topic}`} verb="Empty the topic" risk name=${topic} run=${run} onClose=${onClose}
    lost=${[`${counted(waiting, 'message')} that no channel has taken yet`]}>
    <p>What its channels hold stays: they are emptied one by one.</p>
  </${Ask}>`
}

function Delete({data, onClose}) {
  const {topic, depth, in_flight: held, deferred, clients, channels, channels_total: total, nodes} = data
  const run = async () => {
    await act({action: 'delete_topic', topic}, `Deleted topic ${topic}`)
    go(link(['topics']))
  }
  const names = channels
    .slice(0, 5)
    .map(({channel}) => channel)
    .join(', ')
  const lost = [
    `${counted(depth, 'message')} that wait, ${count(held)} in flight and ${count(deferred)} deferred`,
    total > 0 ? `${counted(total, 'channel')}: ${names}${total > 5 ? ' and more' : ''}` : 'no channel: it has none',
    `the place of ${counted(clients, 'client')}, which will be disconnected`,
  ]
  return html`<${Ask} title=${`Delete topic ${topic}`} verb="Delete the topic" risk name=${topic} run=${run} onClose=${onClose} lost=${lost}>
    <p>On ${counted(nodes.length, 'node')} and at the lookup servers.</p>
  </${Ask}>`
}

const channelColumns = (topic) => [
  {
    head: 'Channel',
    name: true,
    sort: 'name',
    value: (row) => row.channel,
    cell: (row) =>
      html`<a href=${link(['topics', topic, row.channel])}>${row.channel}</a> ${
        row.paused && html`<${Tag} kind="warn">paused</${Tag}> `
      }${!(row.paused && row.worst?.kind === 'paused') && html`<${Worst} finding=${row.worst} />`}`,
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

function Channels({data, again}) {
  const [isOpen, setOpen] = useState(false)
  const mayAct = useMayAct()
  const {topic, channels, channels_total: total} = data
  const create = mayAct && html`<button type="button" onClick=${() => setOpen(true)}>Create a channel</button>`
  return html`<${Part} title="Channels" end=${create}>
    <${More} shown=${channels.length} total=${total} noun="channel" />
    <${SortedTable} caption="Channels" columns=${channelColumns(topic)} rows=${channels} keyOf=${({channel}) => channel}
      none="No channel: messages wait in the topic until there is one." />
    ${isOpen && html`<${CreateChannel} topic=${topic} again=${again} onClose=${() => setOpen(false)} />`}
  </${Part}>`
}

function Nodes({data, again}) {
  const [asked, setAsked] = useState(null)
  const mayAct = useMayAct()
  const {topic, nodes, nodes_total: total} = data
  const node = {
    head: 'Node',
    name: true,
    sort: 'node',
    value: (row) => row.node,
    cell: (row) =>
      html`<a href=${link(['nodes', row.node])}>${row.node}</a> ${
        row.tombstoned && html`<${Tag}>tombstoned</${Tag}> `
      }${row.damage && html`<${Tag} kind="bad" title=${row.damage}>damaged</${Tag}>`}`,
  }
  const acts = {
    head: 'Actions',
    cell: (row) =>
      html`<button type="button" class="plain" aria-label=${`Tombstone ${topic} on ${row.node}`} onClick=${() => setAsked(row)}>Tombstone…</button>`,
  }
  const columns = [
    node,
    numbers.stored,
    numbers.growth,
    numbers.published,
    numbers.finished,
    numbers.inFlight,
    numbers.messages,
    numbers.channels,
    numbers.clients,
  ]
  return html`<${Part} title="Nodes">
    <${More} shown=${nodes.length} total=${total} noun="node" />
    <${SortedTable} caption="Nodes" columns=${mayAct ? [...columns, acts] : columns} rows=${nodes} keyOf=${(row) => row.node} none="No node has this topic." />
    ${asked && html`<${Tombstone} topic=${topic} row=${asked} again=${again} onClose=${() => setAsked(null)} />`}
  </${Part}>`
}

function Tombstone({topic, row, again, onClose}) {
  const {node, depth, clients} = row
  const run = async () => {
    await act({action: 'tombstone', topic, node}, `Took topic ${topic} off ${node}`)
    again()
  }
  return html`<${Ask} title=${`Take topic ${topic} off ${node}`} verb="Take it off" risk name=${topic} run=${run} onClose=${onClose}
    lost=${[`${counted(depth, 'message')} that wait on this node`, `the place of ${counted(clients, 'client')} there`]}>
    <p>Lookup servers hide the node for this topic, then the topic is deleted there. Other nodes keep theirs.</p>
  </${Ask}>`
}
