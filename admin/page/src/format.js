// Figures as people read them. Each gives "–" for what is not known.

export const UNKNOWN = '–'

const whole = new Intl.NumberFormat('en', {maximumFractionDigits: 0})
const tenths = new Intl.NumberFormat('en', {maximumFractionDigits: 1})
const isNumber = (value) => typeof value === 'number' && Number.isFinite(value)

/** A count: 1,234,567. */
export const count = (value) => (isNumber(value) ? whole.format(value) : UNKNOWN)

/** A count and its noun: "1 message", "2 messages". */
export const counted = (value, noun, nouns = `${noun}s`) => `${count(value)} ${value === 1 ? noun : nouns}`

/** Events a second: 0.3/s, 1,234/s. */
export function rate(value) {
  if (!isNumber(value)) return UNKNOWN
  const size = Math.abs(value)
  if (size > 0 && size < 0.05) return '<0.1/s'
  return `${(size < 10 ? tenths : whole).format(value)}/s`
}

/** Bytes: 1.5 MiB. */
export function bytes(value) {
  if (!isNumber(value)) return UNKNOWN
  const units = ['B', 'KiB', 'MiB', 'GiB', 'TiB', 'PiB']
  let unit = 0
  while (Math.abs(value) >= 1024 && unit < units.length - 1) {
    value /= 1024
    unit += 1
  }
  return `${(unit === 0 || Math.abs(value) >= 100 ? whole : tenths).format(value)} ${units[unit]}`
}

/** A duration, in its two largest units: 45 s, 3 min 20 s, 5 h, 2 d 4 h. */
export function duration(seconds) {
  if (!isNumber(seconds)) return UNKNOWN
  if (seconds > 0 && seconds < 1) return `${(seconds < 0.01 ? tenths : whole).format(seconds * 1000)} ms`
  if (seconds < 10) return `${tenths.format(seconds)} s`
  const units = [
    [86_400, 'd'],
    [3_600, 'h'],
    [60, 'min'],
    [1, 's'],
  ]
  const rest = Math.round(seconds)
  const at = units.findIndex(([size]) => rest >= size)
  const [size, name] = units[at]
  const first = `${whole.format(Math.floor(rest / size))} ${name}`
  if (at === units.length - 1) return first
  const [smaller, small] = units[at + 1]
  const second = Math.floor((rest % size) / smaller)
  return second === 0 ? first : `${first} ${second} ${small}`
}

/** A duration of so many nanoseconds or milliseconds. */
export const nanoseconds = (value) => (isNumber(value) ? duration(value / 1e9) : UNKNOWN)
export const milliseconds = (value) => (isNumber(value) ? duration(value / 1e3) : UNKNOWN)

/** The time since a moment in Unix seconds: "3 min". */
export const since = (moment, now = Date.now() / 1000) => (isNumber(moment) ? duration(Math.max(0, now - moment)) : UNKNOWN)

/** A moment in Unix seconds, in the viewer's time: 2026-11-28 14:03:09. */
export function moment(seconds) {
  if (!isNumber(seconds)) return UNKNOWN
  const date = new Date(seconds * 1000)
  const two = (part) => String(part).padStart(2, '0')
  const day = `${date.getFullYear()}-${two(date.getMonth() + 1)}-${two(date.getDate())}`
  return `${day} ${two(date.getHours())}:${two(date.getMinutes())}:${two(date.getSeconds())}`
}

/** A share of 1: 42%. */
export const percent = (share) => (isNumber(share) ? `${whole.format(share * 100)}%` : UNKNOWN)
