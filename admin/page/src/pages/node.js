// One broker: its state, its topics, and draining it.
import {useState} from 'preact/hooks'
import {html} from '../html.js'
import {act} from '../actions.js'
import {Ask} from '../dialog.js'
import {bytes, counted, duration, moment, since} from '../format.js'
import {History} from '../history.js'
import {listQuery} from '../list.js'
import * as numbers from '../numbers.js'
import {Figures, Findings, Head, Pairs, Part, State} from '../parts.js'
import {usePoll} from '../poll.js'
import {link} from '../route.js'
import {useMayAct} from '../session.js'
import {TopicList} from '../topic_list.js'
import {Disk, NodeTags, Version} from './nodes.js'

export function Node({node, parameters}) {
  const poll = usePoll('data/node', {node, ...listQuery(parameters)})
  const {data} = poll
  const [isOpen, setOpen] = useState(false)
  const mayAct = useMayAct() && data?.node.reachable && data.node.program === 'mq'
  return html`<${Head} crumbs=${[['Nodes', link(['nodes'])]]} title=${node} poll=${poll} tags=${data && html`<${NodeTags} row=${data.node} />`}>
      ${mayAct && !data.node.draining && html`<button type="button" class="risk" onClick=${() => setOpen(true)}>Drain and stop…</button>`}
    </${Head}>
    <${State} poll=${poll} />
    ${data && html`<${Body} data=${data} parameters=${parameters} />`}
    ${isOpen && html`<${Drain} row=${data.node} again=${poll.again} onClose=${() => setOpen(false)} />`}`
}

function Body({data, parameters}) {
  const {node: row, findings} = data
  const trouble = findings.length > 0 && html`<${Part} title="Trouble"><${Findings} findings=${findings} /></${Part}>`
  const all = html`<${Part} title="About it"><div class="sheet"><${Pairs} pairs=${about(row)} /></div></${Part}>`
  if (!row.reachable) return html`${trouble}${all}`
  return html`${trouble}
    ${row.depth != null && html`<${Figures} label="Figures of the node" figures=${numbers.summary(row)} />`}
    <${History} of=${{node: row.node}} span=${parameters.span} page=${data} />
    ${all}
    <${Part} title="Topics"><${TopicList} data=${data} parameters=${parameters} caption=${`Topics of ${row.node}`} none="It has no topics." /></${Part}>`
}

const known = (value, shown) => (value == null ? null : shown)

const about = (row) => [
  ['State', row.reachable ? row.health : (row.error ?? 'It does not answer.')],
  ['Program', known(row.version, html`<${Version} row=${row} />`)],
  ['Up for', known(row.started_at, `${since(row.started_at)}, since ${moment(row.started_at)}`)],
  ['Host', row.hostname],
  [
    'Address for clients',
    known(row.broadcast_address, `${row.broadcast_address}, TCP port ${row.tcp_port}, HTTP port ${row.http_port}`),
  ],
  ['Address used here', `${row.address}${row.configured ? ', configured' : ', from a lookup server'}`],
  ['Region and zone', [row.region, row.zone].filter(Boolean).join(', ')],
  ['Clients', known(row.clients, counted(row.clients, 'client'))],
  ['Memory', known(row.memory_bytes, html`<${numbers.Meter} used=${row.memory_bytes} limit=${row.memory_limit_bytes} />`)],
  ['Disk', known(row.disk_bytes, html`<${Disk} row=${row} />`)],
  ['Log', known(row.live_bytes, logText(row))],
  ['fsync, mean', known(row.fsync_mean_seconds, fsyncText(row))],
  ['Cleaner', known(row.cleaned_files, `${counted(row.cleaned_files, 'file')} removed, ${bytes(row.cleaned_bytes)} copied, since the start`)],
  ['Certificate', known(row.certificate_expires_at, `expires ${moment(row.certificate_expires_at)}`)],
  ['Settings', known(row.settings, html`<${Settings} settings=${row.settings} />`)],
  ['Lookup servers', row.lookups?.join(', ')],
]

/** What of its log is needed, and by how much it grows. */
function logText({live_bytes: live, disk_growth: growth, disk_full_seconds: full}) {
  const parts = [`${bytes(live)} of messages that are pending`]
  if (growth != null) parts.push(growth > 0 ? `grows by ${bytes(growth)}/s` : 'does not grow')
  if (full != null) parts.push(`full in ${duration(full)} at that`)
  return parts.join(', ')
}

function fsyncText({fsync_mean_seconds: mean, sync_failures: failed, write_failures: unwritten, unsynced_bytes: unsynced}) {
  const parts = [duration(mean)]
  if (failed > 0) parts.push(`${counted(failed, 'failure')}`)
  if (unwritten > 0) parts.push(`${counted(unwritten, 'failed write')}`)
  if (unsynced > 0) parts.push(`${bytes(unsynced)} not synced yet`)
  return parts.join(', ')
}

/** The settings that are compared between nodes. */
const Settings = ({settings}) =>
  html`<span class="mono small">${Object.entries(settings)
    .map(([name, value]) => `${name}: ${value || '–'}`)
    .join(', ')}</span>`

function Drain({row, again, onClose}) {
  const [seconds, setSeconds] = useState('')
  const {node, depth, in_flight: held, clients} = row
  const run = async () => {
    const timeout = seconds === '' ? undefined : Number(seconds)
    if (timeout !== undefined && !(timeout > 0)) throw new Error('The time is a number of seconds above 0.')
    await act({action: 'drain', node, timeout_seconds: timeout}, `${node} drains`)
    again()
  }
  return html`<${Ask} title=${`Drain and stop ${node}`} verb="Drain and stop" risk name=${node} run=${run} onClose=${onClose}>
    <p>It takes no more publishes, waits until consumers have finished ${counted(depth, 'message')} that wait and ${counted(held, 'message')} in flight, and stops.
      ${counted(clients, 'client')} will have to go to another node. What is not finished by then stays on its disk.</p>
    <div class="field"><label for="drain-seconds">Stop waiting after, in seconds</label>
      <input id="drain-seconds" inputmode="decimal" placeholder="as the broker is set" value=${seconds} onInput=${(event) => setSeconds(event.target.value)} /></div>
  </${Ask}>`
}
