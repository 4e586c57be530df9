// The first page: what is wrong, then the totals.
import {html} from '../html.js'
import {count, counted} from '../format.js'
import {History} from '../history.js'
import * as numbers from '../numbers.js'
import {Figures, Findings, Head, Part, State, Tag} from '../parts.js'
import {usePoll} from '../poll.js'
import {link} from '../route.js'
import {Table} from '../table.js'

const BUSIEST = [
  {head: 'Topic', name: true, cell: ({topic}) => html`<a href=${link(['topics', topic])}>${topic}</a>`},
  numbers.published,
  numbers.finished,
  numbers.depth,
  numbers.growth,
  numbers.oldest,
  numbers.inFlight,
]

export function Overview({parameters}) {
  const poll = usePoll('data/overview')
  const {data} = poll
  return html`<${Head} title="Overview" poll=${poll} />
    <${State} poll=${poll} />
    ${
      data &&
      html`<${Trouble} data=${data} />
      <${Figures} label="Totals" figures=${[...numbers.summary(data.totals), ...sizes(data.totals)]} />
      <${History} span=${parameters.span} page=${data} />
      <${Part} title="Busiest topics" end=${html`<a href=${link(['topics'])}>All topics</a>`}>
        <${Table} caption="Busiest topics" columns=${BUSIEST} rows=${data.busiest} keyOf=${({topic}) => topic} none="No topics yet." />
      </${Part}>
      <${Part} title="Nodes" end=${html`<a href=${link(['nodes'])}>All about them</a>`}><${Nodes} nodes=${data.nodes} /></${Part}>`
    }`
}

function Trouble({data}) {
  const {findings, findings_total: total} = data
  const isMore = total > findings.length
  const more = isMore ? html`<a href=${link(['topics'])}>All topics, worst first</a>` : null
  const note = isMore ? `the worst ${findings.length} of ${count(total)}` : null
  return html`<${Part} title="Trouble" note=${note} end=${more}>
    <p class="hidden" role="status">${total === 0 ? 'No trouble' : counted(total, 'trouble', 'troubles')}</p>
    ${
      findings.length === 0
        ? html`<p class="calm">${data.reading ? 'Nothing is wrong with the nodes that have answered so far.' : 'Nothing is wrong: no topic or channel is falling behind, and every node answers.'}</p>`
        : html`<${Findings} findings=${findings} />`
    }
  </${Part}>`
}

const sizes = ({topics, channels, clients, nodes, lookups}) => [
  ['Topics', count(topics), counted(channels, 'channel')],
  ['Clients', count(clients), `of ${counted(nodes, 'node')}, ${counted(lookups, 'lookup server')}`],
]

/** Every node as a word: its name, and whether it is well. Those that are not come first. */
function Nodes({nodes}) {
  const isBad = ({reachable, health}) => !reachable || !isWell(health)
  if (nodes.length === 0) return html`<p class="soft">No broker is known.</p>`
  return html`<ul class="words">${[...nodes.filter(isBad), ...nodes.filter((each) => !isBad(each))].map(
    ({node, reachable, health}) => {
      const [kind, word] = !reachable ? ['bad', 'does not answer'] : isWell(health) ? ['good', 'OK'] : ['bad', health]
      return html`<li key=${node}><a href=${link(['nodes', node])}>${node}</a> <${Tag} kind=${kind}>${word}</${Tag}></li>`
    },
  )}</ul>`
}

const isWell = (health) => health == null || health === 'OK'
