// A list of topics that the server searches, sorts and cuts: of the fleet or of one node.
import {html} from './html.js'
import {count, counted} from './format.js'
import * as numbers from './numbers.js'
import {Tag, Worst} from './parts.js'
import {adjust, link} from './route.js'
import {Search} from './search.js'
import {Pager, Table} from './table.js'

const SIZES = ['50', '100', '200']

/** What to ask the server for, out of the address. */
export function listQuery({search, sort, order, page, per_page}) {
  return {search, sort, order, page, per_page}
}

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

export function TopicList({data, parameters, caption, none}) {
  const {search = '', sort, order, per_page: size = '50'} = parameters
  const shown =
    sort && sort !== 'trouble' ? {by: sort, descending: (order ?? (sort === 'name' ? 'asc' : 'desc')) === 'desc'} : undefined
  const onSort = ({by, descending}) => adjust({sort: by, order: descending ? 'desc' : 'asc', page: ''})
  const pages = Math.max(1, Math.ceil(data.matching / data.per_page))
  const total = search ? `${count(data.matching)} of ${counted(data.total, 'topic')}` : counted(data.total, 'topic')
  return html`<div class="list">
    <form class="row" role="search" onSubmit=${(event) => event.preventDefault()}>
      <${Search} label="Search topics by name" value=${search} onSearch=${(words) => adjust({search: words, page: ''})} />
      ${shown && html`<button type="button" onClick=${() => adjust({sort: '', order: '', page: ''})}>Trouble first</button>`}
      <label class="soft small">Rows <select value=${size} onChange=${(event) => adjust({per_page: event.target.value, page: ''})}>
        ${SIZES.map((each) => html`<option key=${each} value=${each}>${each}</option>`)}</select></label>
    </form>
    <${Table} caption=${caption} columns=${COLUMNS} rows=${data.topics} keyOf=${(row) => row.topic} sort=${shown} onSort=${onSort}
      none=${search ? `No topic has ${JSON.stringify(search)} in its name.` : none} />
    <${Pager} page=${data.page} pages=${pages} total=${total} noun="topics" onPage=${(page) => adjust({page: page === 1 ? '' : page})} />
  </div>`
}
