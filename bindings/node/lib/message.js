'use strict'
// Messages over a packed batch: two arrays from the addon, of which objects are made on first use.

const {markAsUntransferable} = require('node:worker_threads')

const check = require('./check')
const {MqError} = require('./error')
const {wide, flushSoon} = require('./runtime')

/** Views of memory, as `subarray` makes them, and quicker. Where a buffer says none, as in Bun, `Buffer` is it. */
const View = Buffer[Symbol.species]
/** What all iterators have. */
const ITERATOR = Object.getPrototypeOf(Object.getPrototypeOf([][Symbol.iterator]()))
/** Words of a message: `src/pack.rs` has their order. */
const WORDS = 10
const NONE = 0xffffffff

/** A batch as it came, and which of its messages are answered. */
class Pack {
  constructor([words, bytes, brokers, native]) {
    // One message's bytes can't be transferred to another thread: they would take those of all others along.
    markAsUntransferable(bytes.buffer)
    this.words = words
    this.memory = bytes.buffer
    this.bytes = Buffer.from(bytes.buffer)
    this.brokers = brokers
    this.native = native
    this.length = words.length / WORDS
    this.answered = new Uint8Array(this.length)
    // Messages from `from` to before `to` are finished, which the addon hears of soon.
    this.from = 0
    this.to = 0
  }

  finish(at) {
    if (this.answered[at] !== 0) return
    this.answered[at] = 1
    if (at === this.to && this.from !== this.to) {
      this.to++
      return
    }
    this.flush()
    this.from = at
    this.to = at + 1
    flushSoon(this)
  }

  requeue(at, delay) {
    if (this.answered[at] !== 0) return
    this.answered[at] = 1
    this.native.requeue(at, at + 1, delay)
  }

  release(at) {
    if (this.answered[at] !== 0) return
    this.answered[at] = 1
    this.native.release(at, at + 1)
  }

  touch(at) {
    if (this.answered[at] === 0) this.native.touch(at, at + 1)
  }

  flush() {
    if (this.from !== this.to) this.native.finish(this.from, this.to)
    this.from = this.to
  }
}

function delayOf(options) {
  const {delay = 0} = check.options(options, 'the options of requeue', ['delay'])
  // One that is longer than any broker takes is for the broker to refuse: a failure, not an exception.
  return typeof delay === 'number' && delay > check.MS_MAX ? delay : check.ms(delay, 'delay')
}

/** One delivery of a message. */
class Message {
  #pack
  #at
  #body

  constructor(pack, at) {
    this.#pack = pack
    this.#at = at
  }

  get #word() {
    return this.#at * WORDS
  }

  get body() {
    if (this.#body === undefined) {
      const {words, memory} = this.#pack
      const word = this.#at * WORDS
      this.#body = new View(memory, words[word], words[word + 1])
    }
    return this.#body
  }

  text() {
    const {words, bytes} = this.#pack
    const start = words[this.#word]
    return bytes.utf8Slice(start, start + words[this.#word + 1])
  }

  json() {
    try {
      return JSON.parse(this.text())
    } catch (cause) {
      throw new MqError('INVALID_JSON', `the message ${this.id} is not JSON: ${cause.message}`, {cause})
    }
  }

  get id() {
    const {words} = this.#pack
    const half = (word) => words[word].toString(16).padStart(8, '0')
    return half(this.#word + 6) + half(this.#word + 5)
  }

  get attempts() {
    return this.#pack.words[this.#word + 2] & 0xffff
  }

  get timestampNs() {
    const {words} = this.#pack
    return wide(words[this.#word + 3], words[this.#word + 4])
  }

  get timestamp() {
    return new Date(Number(this.timestampNs / 1_000_000n))
  }

  get offset() {
    const {words} = this.#pack
    const [low, high] = [words[this.#word + 7], words[this.#word + 8]]
    return low === NONE && high === NONE ? undefined : wide(low, high)
  }

  get broker() {
    const {words, brokers} = this.#pack
    return brokers[words[this.#word + 2] >>> 16]
  }

  get rawHeaders() {
    const {words, bytes} = this.#pack
    let at = words[this.#word + 9]
    if (at === NONE) return []
    const list = new Array(bytes.readUInt32LE(at))
    at += 4
    for (let n = 0; n < list.length; n++) {
      const [name, value] = [bytes.readUInt32LE(at), bytes.readUInt32LE(at + 4)]
      at += 8
      list[n] = [bytes.utf8Slice(at, at + name), bytes.subarray(at + name, at + name + value)]
      at += name + value
    }
    return list
  }

  get headers() {
    const headers = Object.create(null)
    for (const [name, value] of this.rawHeaders) headers[name] = value.toString()
    return headers
  }

  get isAnswered() {
    return this.#pack.answered[this.#at] !== 0
  }

  finish() {
    this.#pack.finish(this.#at)
  }

  requeue(options) {
    this.#pack.requeue(this.#at, options === undefined ? 0 : delayOf(options))
  }

  release() {
    this.#pack.release(this.#at)
  }

  touch() {
    this.#pack.touch(this.#at)
  }

  [Symbol.for('nodejs.util.inspect.custom')](_depth, options, inspect) {
    const {id, attempts, timestamp, headers} = this
    return `Message ${inspect({id, attempts, timestamp, headers, body: this.body}, options)}`
  }
}

/** Messages from `at` to before `end`, one after the other. */
class Messages {
  #pack
  #at
  #end

  constructor(pack, at, end) {
    this.#pack = pack
    this.#at = at
    this.#end = end
  }

  next() {
    return this.#at < this.#end ? {done: false, value: new Message(this.#pack, this.#at++)} : {done: true, value: undefined}
  }

  return(value) {
    this.#at = this.#end
    return {done: true, value}
  }
}

Object.setPrototypeOf(Messages.prototype, ITERATOR)

/** Messages that came together: of a pack those from `start` to before `end`. */
class Batch {
  #pack
  #start
  #end

  constructor(pack, start, end) {
    this.#pack = pack
    this.#start = start
    this.#end = end
  }

  get length() {
    return this.#end - this.#start
  }

  at(index) {
    const place = index < 0 ? index + this.length : index
    return place >= 0 && place < this.length ? new Message(this.#pack, this.#start + place) : undefined
  }

  [Symbol.iterator]() {
    return new Messages(this.#pack, this.#start, this.#end)
  }

  finish() {
    for (let at = this.#start; at < this.#end; at++) this.#pack.finish(at)
  }

  requeue(options) {
    const delay = delayOf(options)
    for (let at = this.#start; at < this.#end; at++) this.#pack.requeue(at, delay)
  }

  release() {
    for (let at = this.#start; at < this.#end; at++) this.#pack.release(at)
  }

  touch() {
    for (let at = this.#start; at < this.#end; at++) this.#pack.touch(at)
  }
}

module.exports = {Pack, Message, Batch}
