'use strict'
// Checks of arguments. What is wrong is named, and what would be right.

const {MqError} = require('./error')

/** The longest time that is taken: a year. What is longer is a mistake of units. */
const MS_MAX = 366 * 24 * 60 * 60 * 1000

function invalid(message) {
  return new MqError('INVALID_ARGUMENT', message)
}

/** A value as an error shows it. */
function shown(value) {
  if (typeof value === 'string') return JSON.stringify(value.length > 40 ? `${value.slice(0, 40)}...` : value)
  if (typeof value === 'function') return 'a function'
  if (typeof value === 'object' && value !== null) return Array.isArray(value) ? 'a list' : 'an object'
  return String(value)
}

/** Checks an object of options, whose keys have to be among `known` if that is given. */
function options(value, what, known) {
  if (value === undefined) return {}
  if (typeof value !== 'object' || value === null) throw invalid(`${what} are ${shown(value)}: an object`)
  for (const key of Object.keys(value)) {
    if (known !== undefined && !known.includes(key)) throw invalid(`${what} have no ${shown(key)}: there are ${known.join(', ')}`)
  }
  return value
}

function string(value, what) {
  if (typeof value !== 'string') throw invalid(`${what} is ${shown(value)}: a string`)
  return value
}

/** A whole number. */
function count(value, what, min, max) {
  if (!Number.isSafeInteger(value) || value < min || value > max) {
    throw invalid(`${what} is ${shown(value)}: a whole number from ${min} to ${max}`)
  }
  return value
}

/** A time in milliseconds. */
function ms(value, what) {
  if (typeof value !== 'number' || !(value >= 0) || value > MS_MAX) {
    throw invalid(`${what} is ${shown(value)}: a number of milliseconds from 0 to ${MS_MAX}`)
  }
  return value
}

/** Whether a text can be written as UTF-8: it has no half of a surrogate pair by itself. */
const isWellFormed = String.prototype.isWellFormed
  ? (text) => text.isWellFormed()
  : // Node 18 has no such call.
    (text) => !/\p{Surrogate}/u.test(text)

/** Bytes or a text, as the addon takes them. */
function bytes(value, what) {
  if (typeof value === 'string') {
    if (!isWellFormed(value)) throw invalid(`${what} has half of a surrogate pair, which is no text: give bytes, or text.toWellFormed()`)
    return value
  }
  if (value instanceof Uint8Array) return value
  if (ArrayBuffer.isView(value)) return new Uint8Array(value.buffer, value.byteOffset, value.byteLength)
  if (value instanceof ArrayBuffer) return new Uint8Array(value)
  const hint = typeof value === 'object' && value !== null ? ', as JSON.stringify makes of an object' : ''
  throw invalid(`${what} is ${shown(value)}: a string or bytes${hint}`)
}

/** Headers as names and values in turn: of an object, whose values can be lists, or of pairs. */
function headers(value) {
  if (value === undefined) return undefined
  if (typeof value !== 'object' || value === null) throw invalid(`headers are ${shown(value)}: an object or pairs`)
  const list = []
  const add = (name, one) => list.push(bytes(string(name, "a header's name"), "a header's name"), bytes(one, `the header ${shown(name)}`))
  if (typeof value[Symbol.iterator] === 'function') {
    for (const pair of value) {
      if (!Array.isArray(pair) || pair.length !== 2) throw invalid('headers have a pair that is not [name, value]')
      add(pair[0], pair[1])
    }
  } else {
    for (const [name, one] of Object.entries(value)) {
      if (Array.isArray(one)) one.forEach((each) => add(name, each))
      else if (one !== undefined) add(name, one)
    }
  }
  return list
}

function signal(value) {
  if (value === undefined) return undefined
  if (typeof value?.addEventListener !== 'function' || typeof value.aborted !== 'boolean') {
    throw invalid(`signal is ${shown(value)}: an AbortSignal`)
  }
  return value
}

module.exports = {MS_MAX, options, isWellFormed, string, count, ms, bytes, headers, signal, invalid, shown}
