'use strict'
// A subscription: an iterable of messages, which come in batches from the addon.

const check = require('./check')
const {MqError, AbortError, Failure} = require('./error')
const {Pack, Message, Batch} = require('./message')
const {waiting, outcomeOf, Watch, hold, release, flushAll} = require('./runtime')

/** Most messages that are fetched at a time: the event loop turns between two fetches. */
const FETCH_MAX = 1000
/**
 * Time in which a program should be through with what was fetched. One that takes longer gets fewer: those that wait
 * in the client do not time out, and those that were fetched do.
 */
const FETCH_MS = 20
/** How much more is fetched after a fetch that the program was through with in time. */
const FETCH_GROWTH = 4
const CLOSE_TIMEOUT_MS = 10_000
const FLUSH_TIMEOUT_MS = 10_000
/** Name of the call that tells what happens to the connections. */
const WATCH = Symbol('watch')

/** A subscription to a channel. */
class Subscription {
  #topic
  #channel
  #max
  #onEnd
  #native = null
  /** The promise of the opening: undefined, or a Failure. */
  #opening
  #isClosed = false
  /** Set before it was open. */
  #maxInFlight = null
  /** Tells what happens to the connections. */
  #watch = null
  /** Whether a loop over it ends quietly: it was closed from here. */
  #isEnding = false
  #isHeld = true
  #pack = null
  #at = 0
  /** Messages of the next fetch. */
  #many = 1
  /** Number of messages fetched last, and the time when they came. */
  #fetched = 0
  #fetchedAt = 0
  /** The promise of the batch that is on its way. */
  #fetching = null
  #signal
  #onAbort

  constructor(open, onEnd, {topic, channel, maxInFlight, signal}) {
    this.#topic = topic
    this.#channel = channel
    this.#max = Math.min(maxInFlight, FETCH_MAX)
    this.#onEnd = onEnd
    this.#signal = signal
    hold()
    this.#onAbort = () => this.#end()
    if (signal?.aborted) {
      this.#opening = Promise.resolve()
      this.#end()
      return
    }
    signal?.addEventListener('abort', this.#onAbort)
    this.#opening = outcomeOf(open()).then((native) => {
      if (native instanceof Failure) {
        this.#end()
        return native
      }
      this.#native = native
      if (this.#isClosed) native.close()
      else if (this.#maxInFlight !== null) native.setMaxInFlight(this.#maxInFlight)
      return undefined
    })
  }

  get topic() {
    return this.#topic
  }

  get channel() {
    return this.#channel
  }

  /** Waits until the channel is there. */
  async opened() {
    const failure = await this.#opening
    if (failure !== undefined) throw failure.error()
  }

  /** The next message. */
  next() {
    return this.#pack !== null && this.#signal?.aborted !== true
      ? Promise.resolve({done: false, value: this.#takeMessage()})
      : this.#later(1, false)
  }

  /** Ends the subscription: what is not answered goes back. */
  async return() {
    await this.close()
    return {done: true, value: undefined}
  }

  [Symbol.asyncIterator]() {
    return this
  }

  /** Batches instead of messages. */
  batches(options) {
    const {max = this.#max} = check.options(options, 'the options of batches', ['max'])
    check.count(max, 'max', 1, 1_000_000)
    return {
      next: () => this.#nextBatch(max),
      return: () => this.return(),
      [Symbol.asyncIterator]() {
        return this
      }
    }
  }

  /** The next batch. */
  #nextBatch(max) {
    return this.#pack !== null && this.#signal?.aborted !== true
      ? Promise.resolve({done: false, value: this.#takeBatch(max)})
      : this.#later(max, true)
  }

  #takeBatch(max) {
    const [pack, start] = [this.#pack, this.#at]
    this.#at = Math.min(start + max, pack.length)
    if (this.#at === pack.length) this.#pack = null
    return new Batch(pack, start, this.#at)
  }

  #takeMessage() {
    const value = new Message(this.#pack, this.#at)
    if (++this.#at === this.#pack.length) this.#pack = null
    return value
  }

  /** A message or batch, once there is one. Its callers are all functions that hand the promise on. */
  async #later(max, asBatch) {
    for (;;) {
      if (this.#signal?.aborted) throw new AbortError(this.#signal.reason)
      if (this.#pack !== null) return {done: false, value: asBatch ? this.#takeBatch(max) : this.#takeMessage()}
      // Those that wait at the same time share what comes.
      this.#fetching ??= this.#fetch(max)
      const failure = await this.#fetching
      if (this.#signal?.aborted) continue
      if (failure === undefined) continue
      if (failure.code === 'CLOSED' && this.#isEnding) return {done: true, value: undefined}
      throw failure.error()
    }
  }

  /** Fetches messages, for one who takes up to `max` at a time. Returns the Failure if there are none. */
  async #fetch(max) {
    try {
      this.#adapt()
      if (this.#native === null) {
        const failure = await this.#opening
        if (failure !== undefined) return failure
      }
      if (this.#isClosed) return new Failure('CLOSED', 'the subscription is closed', false)
      // Timers and sockets have their turn, however many messages there are.
      await new Promise((resolve) => setImmediate(resolve))
      if (this.#isClosed) return new Failure('CLOSED', 'the subscription is closed', false)
      const many = Math.max(max, Math.min(this.#many, this.#max))
      let packed = this.#native.poll(many)
      // Answers wait for those to messages that are here already, and no longer.
      if (packed === null && flushAll()) packed = this.#native.poll(many)
      if (packed === null) packed = await new Promise((take) => waiting.set(this.#native.number, {take}))
      if (packed instanceof Failure) {
        this.#end(false)
        return packed
      }
      // They came when it was closed, and went back by that.
      if (this.#isClosed) return new Failure('CLOSED', 'the subscription is closed', false)
      this.#pack = new Pack(packed)
      this.#at = 0
      this.#fetched = this.#pack.length
      this.#fetchedAt = performance.now()
      return undefined
    } finally {
      this.#fetching = null
    }
  }

  /** Fetches more, or less, as the program was through with the last fetch in time or not. */
  #adapt() {
    if (this.#fetched === 0) return
    const took = performance.now() - this.#fetchedAt
    if (took <= FETCH_MS) this.#many = Math.min(FETCH_GROWTH * this.#many, FETCH_MAX)
    else this.#many = Math.max(Math.floor((this.#fetched * FETCH_MS) / took), 1)
  }

  /** Sets how many messages may be here without an answer. 0 pauses: nothing more is sent here. */
  setMaxInFlight(maxInFlight) {
    check.count(maxInFlight, 'maxInFlight', 0, 1_000_000)
    this.#maxInFlight = maxInFlight
    this.#max = Math.min(Math.max(maxInFlight, 1), FETCH_MAX)
    if (!this.#isClosed) this.#native?.setMaxInFlight(maxInFlight)
  }

  /** Consumes from one more broker, `host:port`, whatever lookup servers say. */
  async addBroker(address) {
    check.string(address, 'the address')
    await this.opened()
    const [code, message] = this.#native.addBroker(address) ?? []
    if (code !== undefined) throw new MqError(code, message)
  }

  /** Calls `listener` with what happens to the connections of a subscription that is open. */
  [WATCH](listener) {
    this.#watch = new Watch(this.#native, listener)
    return this.#watch
  }

  /** Waits until the answers given so far are in the log of their broker. Returns whether the time was enough. */
  async flush(options) {
    const {timeout = FLUSH_TIMEOUT_MS} = check.options(options, 'the options of flush', ['timeout'])
    check.ms(timeout, 'timeout')
    await this.opened()
    flushAll()
    const flushed = this.#native === null ? new Failure('CLOSED', 'the subscription is closed', false) : await outcomeOf(this.#native.flush(timeout))
    if (flushed instanceof Failure) throw flushed.error()
    return flushed === 'true'
  }

  /** Answers that failed, and brokers that can't be reached, since they were asked for last. */
  failures() {
    const list = this.#native?.failures() ?? []
    const failures = []
    for (let at = 0; at < list.length; at += 5) {
      const [broker, messageId, code, message, retry] = list.slice(at, at + 5)
      const error = new MqError(code, message, {retry})
      failures.push({broker, messageId: messageId ?? undefined, error})
    }
    return failures
  }

  #end(quietly = true) {
    if (this.#isClosed) return
    this.#isClosed = true
    this.#isEnding = quietly
    flushAll()
    this.#pack = null
    this.#watch?.end()
    this.#native?.close()
    this.#signal?.removeEventListener('abort', this.#onAbort)
    this.#onEnd(this)
    if (this.#fetching !== null) {
      // Whoever waits for a message learns of the end: the process lives until then.
      hold()
      this.#fetching.finally(release)
    }
    this.unref()
  }

  [Symbol.for('nodejs.util.inspect.custom')](_depth, options, inspect) {
    return `Subscription ${inspect({topic: this.#topic, channel: this.#channel, isClosed: this.#isClosed}, options)}`
  }

  /** Ends the subscription, and waits until that is complete. Returns whether it is. */
  async close(options) {
    const {timeout = CLOSE_TIMEOUT_MS} = check.options(options, 'the options of close', ['timeout'])
    check.ms(timeout, 'timeout')
    this.#end()
    await this.#opening
    if (this.#native === null) return true
    const closed = await outcomeOf(this.#native.closed(timeout))
    if (closed instanceof Failure) throw closed.error()
    return closed === 'true'
  }

  /** Keeps the process alive while the subscription is open, as it does from the beginning. */
  ref() {
    if (!this.#isHeld && !this.#isClosed) {
      this.#isHeld = true
      hold()
    }
    return this
  }

  /** Lets the process end although the subscription is open. */
  unref() {
    if (this.#isHeld) {
      this.#isHeld = false
      release()
    }
    return this
  }

  get isClosed() {
    return this.#isClosed
  }
}

// Node 18 has no such symbol.
if (Symbol.asyncDispose === undefined) Object.defineProperty(Symbol, 'asyncDispose', {value: Symbol('Symbol.asyncDispose')})
Subscription.prototype[Symbol.asyncDispose] = async function () {
  await this.close()
}

module.exports = {Subscription, WATCH}
