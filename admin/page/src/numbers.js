// The figures that topics, channels and nodes have in common, as columns of tables and as figures at the top.
import {html} from './html.js'
import {bytes, count, duration, nanoseconds, rate, UNKNOWN} from './format.js'

/** A zero or an unknown is quiet, so that the eye finds the others. */
const quiet = (value, text) => (value ? text : html`<span class="soft">${text}</span>`)

const column = (head, field, format, title) => ({
  head,
  title,
  n: true,
  sort: field,
  value: (row) => row[field],
  cell: (row) => quiet(row[field], format(row[field])),
})

export const depth = column('Depth', 'depth', count, 'Messages that wait, in memory and on disk')
/** The same with what is on disk, where rows are few. */
export const stored = {
  ...depth,
  cell: (row) => html`${depth.cell(row)}${row.disk_depth > 0 && html`<span class="sub">${count(row.disk_depth)} on disk</span>`}`,
}
export const inFlight = column('In flight', 'in_flight', count, 'Delivered and not finished yet')
export const deferred = column('Deferred', 'deferred', count, 'Not to be delivered before a time')
export const published = column('Published', 'published_rate', rate, 'Messages published a second')
export const finished = column('Finished', 'finished_rate', rate, 'Messages finished a second, in all channels')
export const requeued = column('Requeued', 'requeued', count, 'Since the start')
export const timedOut = column('Timed out', 'timed_out', count, 'Since the start')
export const messages = column('Messages', 'messages', count, 'Since the start')
export const channels = column('Channels', 'channels', count)
export const clients = column('Clients', 'clients', count)
export const growth = {
  head: 'Growth',
  title: 'Change of the depth a second, over the last minute',
  n: true,
  sort: 'growth',
  value: (row) => row.growth,
  cell: (row) => quiet(row.growth > 0, signed(row.growth)),
}
export const oldest = {
  head: 'Oldest',
  title: 'Age of the oldest unfinished message',
  n: true,
  sort: 'oldest_seconds',
  value: (row) => row.oldest_seconds,
  cell: (row) => quiet(row.oldest_seconds, duration(row.oldest_seconds)),
}
export const latency = {
  head: 'Latency',
  title: 'From publish to finish',
  n: true,
  cell: ({latency: known}) =>
    known?.length ? html`<span title=${latencyText(known)}>${latencyText(known.slice(-1))}</span>` : UNKNOWN,
}

/** A rate with its sign: growth is trouble, shrinking is not. */
export function signed(value) {
  if (value == null) return UNKNOWN
  if (Math.abs(value) < 0.05) return '0/s'
  return value > 0 ? `+${rate(value)}` : `−${rate(-value)}`
}

/** Time to drain at the present net rate, and a word about it. */
function drain({depth: waiting, drain_seconds: seconds, growth: change}) {
  if (waiting === 0) return ['0 s', 'nothing waits']
  if (change == null) return [UNKNOWN, 'no rate is known yet']
  return [seconds == null ? 'never' : duration(seconds), `as the depth changes: ${signed(change)}`]
}

function latencyText(percentiles) {
  return percentiles.map(({quantile, value}) => `${count(quantile * 100)}%: ${nanoseconds(value)}`).join(', ')
}

/** The figures at the top of a topic, channel or node. */
export function summary(numbers, of = 'in all channels') {
  const {memory_depth: memory, disk_depth: disk} = numbers
  const where = memory == null || numbers.depth === 0 ? null : `${count(memory)} in memory, ${count(disk)} on disk`
  return [
    ['Depth', count(numbers.depth), where],
    ['In flight', count(numbers.in_flight), `${count(numbers.deferred)} deferred`],
    ['Published', rate(numbers.published_rate), `${count(numbers.messages)} in all`],
    ['Finished', rate(numbers.finished_rate), of],
    ['Oldest', duration(numbers.oldest_seconds), 'unfinished message'],
    ['Time to drain', ...drain(numbers)],
    ['Requeued', count(numbers.requeued), rateNow(numbers.requeued_rate)],
    ['Timed out', count(numbers.timed_out), rateNow(numbers.timed_out_rate)],
  ]
}

const rateNow = (value) => (value == null ? 'since the start' : `now ${rate(value)}`)

/** A size beside its limit, as a meter. A limit of 0 is none. */
export function Meter({used, limit}) {
  if (used == null) return UNKNOWN
  if (!limit) return bytes(used)
  const share = Math.min(1, used / limit)
  const kind = share > 0.95 ? 'bad' : share > 0.8 ? 'warn' : undefined
  return html`<span class="nowrap">${bytes(used)} of ${bytes(limit)}<span class="meter" aria-hidden="true">
    <span class=${kind} style=${{width: `${share * 100}%`}}></span></span></span>`
}
