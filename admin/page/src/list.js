// A list that the server searches, sorts and cuts. What is chosen is in the address.
import {html} from './html.js'
import {count, counted} from './format.js'
import {adjust} from './route.js'
import {Search} from './search.js'
import {Pager, Table} from './table.js'

const SIZES = ['50', '100', '200']

/** What to ask the server for, out of the address. */
export function listQuery({search, sort, order, page, per_page}) {
  return {search, sort, order, page, per_page}
}

/** `rows` of `data`, each a `noun`. What steps through the pages stands before the rows: nobody has to go through all of them. */
export function List({data, rows, parameters, noun, columns, caption, keyOf, none}) {
  const {search = '', sort, order, per_page: size = '50'} = parameters
  const shown =
    sort && sort !== 'trouble' ? {by: sort, descending: (order ?? (sort === 'name' ? 'asc' : 'desc')) === 'desc'} : undefined
  const onSort = ({by, descending}) => adjust({sort: by, order: descending ? 'desc' : 'asc', page: ''})
  const pages = Math.max(1, Math.ceil(data.matching / data.per_page))
  const total = search ? `${count(data.matching)} of ${counted(data.total, noun)}` : counted(data.total, noun)
  return html`<div class="list">
    <form class="row" role="search" onSubmit=${(event) => event.preventDefault()}>
      <${Search} label=${`Search ${noun}s by name`} value=${search} onSearch=${(words) => adjust({search: words, page: ''})} />
      ${shown && html`<button type="button" onClick=${() => adjust({sort: '', order: '', page: ''})}>Trouble first</button>`}
      <label class="soft small">Rows <select value=${size} onChange=${(event) => adjust({per_page: event.target.value, page: ''})}>
        ${SIZES.map((each) => html`<option key=${each} value=${each}>${each}</option>`)}</select></label>
    </form>
    <${Pager} page=${data.page} pages=${pages} total=${total} noun=${`${noun}s`} onPage=${(page) => adjust({page: page === 1 ? '' : page})} />
    <${Table} caption=${caption} columns=${columns} rows=${rows} keyOf=${keyOf} sort=${shown} onSort=${onSort}
      none=${search ? `No ${noun} has ${JSON.stringify(search)} in its name.` : none} />
  </div>`
}
