// Bodies of messages, as text, JSON or hex: always text to the browser, whatever is in them.
import {html} from './html.js'

export const VIEWS = [
  ['text', 'Text'],
  ['json', 'JSON'],
  ['hex', 'Hex'],
]

/** Bytes of a body that hex shows: beyond that it is no help, and slow. */
const HEX_BYTES_MAX = 4096
const HEX_ROW = 16

/** The body in a view; binary bodies are always hex, and a body that is no JSON is text. */
export function bodyText({text, base64, truncated}, view) {
  if (text === null || text === undefined || view === 'hex') return {view: 'hex', text: hex(decoded(base64))}
  if (view === 'json' && !truncated) {
    try {
      return {view, text: JSON.stringify(JSON.parse(text), null, 2)}
    } catch {
      return {view: 'text', text}
    }
  }
  return {view: 'text', text}
}

function decoded(base64) {
  const binary = atob(base64)
  return Uint8Array.from(binary, (char) => char.charCodeAt(0))
}

/** Rows of an offset, 16 bytes, and the same as ASCII. */
function hex(body) {
  const rows = []
  for (let at = 0; at < Math.min(body.length, HEX_BYTES_MAX); at += HEX_ROW) {
    const row = [...body.subarray(at, at + HEX_ROW)]
    const bytes = row
      .map((byte) => byte.toString(16).padStart(2, '0'))
      .join(' ')
      .padEnd(HEX_ROW * 3 - 1)
    const ascii = row.map((byte) => (byte >= 32 && byte < 127 ? String.fromCharCode(byte) : '.')).join('')
    rows.push(`${at.toString(16).padStart(6, '0')}  ${bytes}  ${ascii}`)
  }
  if (body.length > HEX_BYTES_MAX) rows.push(`… ${body.length - HEX_BYTES_MAX} more bytes`)
  return rows.join('\n')
}

/** Whether a message has the words in its body, headers or id. */
export function has(message, words, view) {
  if (words === '') return true
  const wanted = words.toLowerCase()
  const headers = (message.headers ?? []).map(({name, value}) => `${name}: ${value}`)
  const places = [message.id, message.text ?? '', bodyText(message, view).text, ...headers]
  return places.some((place) => place.toLowerCase().includes(wanted))
}

/** Text with every occurrence of the words marked. */
export function Marked({text, words}) {
  if (words === '') return text
  const lower = text.toLowerCase()
  // A letter whose lower case is longer would shift what is marked.
  if (lower.length !== text.length) return text
  const wanted = words.toLowerCase()
  const pieces = []
  let from = 0
  for (let at = lower.indexOf(wanted); at >= 0; at = lower.indexOf(wanted, from)) {
    pieces.push(text.slice(from, at), html`<mark key=${at}>${text.slice(at, at + wanted.length)}</mark>`)
    from = at + wanted.length
  }
  return [...pieces, text.slice(from)]
}
