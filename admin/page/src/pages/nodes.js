// Brokers and lookup servers, with what is wrong with them.
import {html} from '../html.js'
import {bytes, count, counted, duration, moment, since, UNKNOWN} from '../format.js'
import {List, listQuery} from '../list.js'
import {LookupTable} from '../lookup_table.js'
import * as numbers from '../numbers.js'
import {Findings, Head, Part, State, Tag} from '../parts.js'
import {usePoll} from '../poll.js'
import {link} from '../route.js'

export function Nodes({parameters}) {
  const poll = usePoll('data/nodes', listQuery(parameters))
  const {data} = poll
  return html`<${Head} title="Nodes" poll=${poll} />
    <${State} poll=${poll} />
    ${
      data &&
      html`${data.findings.length > 0 && html`<${Part} title="Trouble" note=${cut(data)}><${Findings} findings=${data.findings} /></${Part}>`}
      <${Part} title="Brokers">
        <${List} data=${data} rows=${data.nodes.map(known)} parameters=${parameters} noun="broker" columns=${COLUMNS} caption="Brokers"
          keyOf=${({node}) => node} none="No broker is known." />
      </${Part}>
      <${Part} title="Lookup servers"><${LookupTable} lookups=${data.lookups} /></${Part}>`
    }`
}

const cut = ({findings, findings_total: total}) =>
  total > findings.length ? `the worst ${findings.length} of ${count(total)}` : null

/** What is known of a node: its figures only while it answers. */
const known = (row) => (row.reachable ? row : {node: row.node, reachable: false, error: row.error})

const COLUMNS = [
  {
    head: 'Node',
    name: true,
    sort: 'name',
    cell: (row) => html`<a href=${link(['nodes', row.node])}>${row.node}</a> <${NodeTags} row=${row} />
      ${row.hostname && !row.node.startsWith(row.hostname) && html`<span class="sub">${row.hostname}</span>`}`,
  },
  {head: 'Program', sort: 'version', cell: (row) => html`<${Version} row=${row} />`},
  {
    head: 'Up for',
    n: true,
    sort: 'started_at',
    cell: ({started_at: at}) => html`<span title=${at == null ? undefined : `since ${moment(at)}`}>${since(at)}</span>`,
  },
  numbers.stored,
  numbers.published,
  numbers.finished,
  numbers.inFlight,
  {head: 'Topics', n: true, sort: 'topics', cell: ({topics}) => topics ?? UNKNOWN},
  numbers.clients,
  {
    head: 'Memory',
    n: true,
    sort: 'memory',
    cell: (row) => html`<${numbers.Meter} used=${row.memory_bytes} limit=${row.memory_limit_bytes} />`,
  },
  {head: 'Disk', n: true, sort: 'disk', cell: (row) => html`<${Disk} row=${row} />`},
  {
    head: 'fsync',
    title: 'Mean since the start',
    n: true,
    sort: 'fsync',
    cell: (row) => duration(row.fsync_mean_seconds),
  },
]

/** Words for the state of a node. */
export function NodeTags({row}) {
  const {reachable, error, health, draining, damaged} = row
  return html`${!reachable && html`<${Tag} kind="bad" title=${error}>does not answer</${Tag}> `}
    ${health && health !== 'OK' && html`<${Tag} kind="bad" title=${health}>unhealthy</${Tag}> `}
    ${damaged > 0 && html`<${Tag} kind="bad">${counted(damaged, 'damaged topic')}</${Tag}> `}
    ${draining && html`<${Tag} kind="warn">draining</${Tag}>`}`
}

export function Version({row}) {
  const {program, version, out_of_date: isOld} = row
  return html`<span class="nowrap">${[program, version].filter(Boolean).join(' ') || UNKNOWN}</span>${isOld && html` <${Tag} kind="warn">older</${Tag}>`}`
}

/** What is used of the limit, what is free, and when it is full at the present rate. */
export function Disk({row}) {
  const {disk_bytes: used, disk_limit_bytes: limit, disk_free_bytes: free, disk_full_seconds: full} = row
  if (used == null) return UNKNOWN
  return html`<${numbers.Meter} used=${used} limit=${limit} />
    <span class=${full != null && full < 86_400 ? 'sub warn' : 'sub'}>${[free != null && `${bytes(free)} free`, full != null && `full in ${duration(full)}`].filter(Boolean).join(', ')}</span>`
}
