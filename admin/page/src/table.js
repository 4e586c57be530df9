// Tables: a caption, heads with a scope, and a region that scrolls sideways by itself on a narrow screen.
import {useState} from 'preact/hooks'
import {html} from './html.js'

/**
 * A table of `rows`. A column has a `head`, `cell(row)`, and maybe `n` (a number), `name` (the row's head),
 * `sort` (its name for `onSort`) and `title` (an explanation). `sort` is `{ by, descending }`.
 */
export function Table({caption, columns, rows, keyOf, sort, onSort, none = 'None.', foot}) {
  return html`<div class="scroll" role="region" aria-label=${caption} tabindex="0">
    <table>
      <caption class="hidden">${caption}</caption>
      <thead><tr>${columns.map((column) => html`<${Head} key=${column.head} column=${column} sort=${sort} onSort=${onSort} />`)}</tr></thead>
      <tbody>${rows.map((row) => html`<tr key=${keyOf(row)}>${columns.map((column) => html`<${Cell} key=${column.head} column=${column} row=${row} />`)}</tr>`)}
        ${rows.length === 0 && html`<tr key="none"><td class="none" colspan=${columns.length}>${none}</td></tr>`}</tbody>
      ${
        foot &&
        rows.length > 0 &&
        html`<tfoot><tr>${columns.map((column, at) =>
          at === 0
            ? html`<th key=${column.head} scope="row">${foot[column.head] ?? 'All'}</th>`
            : html`<td key=${column.head} class=${column.n ? 'n' : undefined}>${foot[column.head]}</td>`,
        )}</tr></tfoot>`
      }
    </table>
  </div>`
}

/** A table that sorts its rows itself, by columns with a `value(row)`; in the order given until one is chosen. */
export function SortedTable({rows, columns, ...rest}) {
  const [sort, setSort] = useState(undefined)
  const by = columns.find((column) => column.value && column.sort === sort?.by)
  const sorted = by ? [...rows].sort((a, b) => compare(by.value(a), by.value(b)) * (sort.descending ? -1 : 1)) : rows
  return html`<${Table} rows=${sorted} columns=${columns} sort=${by && sort} onSort=${setSort} ...${rest} />`
}

/** Unknown values are the smallest. */
function compare(a, b) {
  if (typeof a === 'string' && typeof b === 'string') return a.localeCompare(b, 'en', {numeric: true})
  return (a ?? -Infinity) - (b ?? -Infinity) || 0
}

function Head({column, sort, onSort}) {
  const {head, title, n} = column
  const kind = n ? 'n' : undefined
  if (!column.sort || !onSort) return html`<th scope="col" class=${kind} title=${title}>${head}</th>`
  const isSorted = sort?.by === column.sort
  const order = isSorted ? (sort.descending ? 'descending' : 'ascending') : undefined
  const mark = isSorted ? (sort.descending ? ' ↓' : ' ↑') : ''
  const press = () => onSort({by: column.sort, descending: isSorted ? !sort.descending : Boolean(n)})
  return html`<th scope="col" class=${kind} aria-sort=${order} title=${title}>
    <button type="button" onClick=${press}>${head}<span aria-hidden="true">${mark}</span></button></th>`
}

function Cell({column, row}) {
  const {cell, n, name} = column
  if (name) return html`<th scope="row" class="name">${cell(row)}</th>`
  return html`<td class=${n ? 'n' : undefined}>${cell(row)}</td>`
}

/**
 * Steps through the pages of a list that the server cuts. A button that leads nowhere keeps the focus: the keyboard
 * would begin anew at the top of the page.
 */
export function Pager({page, pages, total, noun, onPage}) {
  const step = (word, to) =>
    html`<button type="button" aria-disabled=${String(to < 1 || to > pages)} onClick=${() => to >= 1 && to <= pages && onPage(to)}>${word}</button>`
  return html`<nav class="row" aria-label=${`Pages of ${noun}`}>
    <span class="soft" aria-live="polite">${total}${pages > 1 ? `, page ${page} of ${pages}` : ''}</span>
    ${pages > 1 && html`${step('Previous', page - 1)}${step('Next', page + 1)}`}
  </nav>`
}
