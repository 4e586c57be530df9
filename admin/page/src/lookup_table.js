// The table of lookup servers.
import {html} from './html.js'
import {count, UNKNOWN} from './format.js'
import {Tag} from './parts.js'
import {SortedTable} from './table.js'

const COLUMNS = [
  {
    head: 'Lookup server',
    name: true,
    sort: 'lookup',
    value: ({lookup}) => lookup,
    cell: ({lookup, reachable, error}) =>
      html`${lookup} ${!reachable && html`<${Tag} kind="bad" title=${error}>does not answer</${Tag}>`}`,
  },
  {head: 'Version', cell: ({version}) => version ?? UNKNOWN},
  {head: 'Brokers', n: true, sort: 'brokers', value: ({brokers}) => brokers, cell: ({brokers}) => count(brokers)},
  {head: 'Topics', n: true, sort: 'topics', value: ({topics}) => topics, cell: ({topics}) => count(topics)},
  {
    head: 'Agrees with the others',
    cell: ({reachable, error, disagrees}) =>
      !reachable
        ? html`<span class="bad">${error ?? 'It does not answer.'}</span>`
        : disagrees
          ? html`<span class="warn">No: ${disagrees}</span>`
          : 'Yes',
  },
]

export function LookupTable({lookups}) {
  return html`<${SortedTable} caption="Lookup servers" columns=${COLUMNS} rows=${lookups} keyOf=${({lookup}) => lookup} none="No lookup server is configured." />`
}
