// A list of topics, of the fleet or of one node.
import {html} from './html.js'
import {List} from './list.js'
import * as numbers from './numbers.js'
import {Tag, Worst} from './parts.js'
import {link} from './route.js'

const NAME = {
  head: 'Topic',
  name: true,
  sort: 'name',
  cell: (row) => html`<a href=${link(['topics', row.topic])}>${row.topic}</a> ${marks(row)}`,
}

const marks = (row) =>
  html`${row.paused && html`<${Tag} kind="warn">paused</${Tag}> `}${
    row.tombstoned && html`<${Tag}>tombstoned</${Tag}> `
  }${!(row.paused && row.worst?.kind === 'paused') && html`<${Worst} finding=${row.worst} />`}`

const COLUMNS = [
  NAME,
  numbers.depth,
  numbers.growth,
  numbers.oldest,
  numbers.published,
  numbers.finished,
  numbers.inFlight,
  numbers.deferred,
  numbers.requeued,
  numbers.timedOut,
  numbers.messages,
  numbers.channels,
  numbers.clients,
]

export const TopicList = ({data, parameters, caption, none}) =>
  html`<${List} data=${data} rows=${data.topics} parameters=${parameters} noun="topic" columns=${COLUMNS} caption=${caption}
    keyOf=${(row) => row.topic} none=${none} />`
