'use strict'
// A client: it publishes in order, and opens subscriptions.

const check = require('./check')
const {MqError, Failure} = require('./error')
const {native, waiting, outcomeOf, hold, release, flushAll} = require('./runtime')
const settings = require('./settings')
const {Subscription} = require('./subscription')

const MESSAGE_KEYS = ['body', 'headers', 'id', 'delay']
const STARTS = ['waiting', 'earliest', 'latest']
const CLOSE_TIMEOUT_MS = 30_000
/** Name of a call that `libmq/testing` makes public. */
const ADVANCE = Symbol('advance')
/** Entries that are done before the list of publishes is made anew. */
const DONE_MAX = 1024

/** Connects to brokers, or opens one in this process. */
async function connect(url, options) {
  return await open(Client, url, options)
}

/** The same, as a client of this class. */
async function open(Class, url, options) {
  check.string(url, 'the URL')
  const pairs = settings.pairs(options)
  const own = settings.own(url, options)
  const opened = await outcomeOf(native.connect(url, pairs, own.maxBufferedBytes))
  if (opened instanceof Failure) throw opened.error()
  return new Class(opened, own.publishTimeout)
}

/** The first message of a channel that is created, as the addon takes it: a kind and a number. */
function startOf(start) {
  if (STARTS.includes(start)) return [start, 0n]
  const {offset, time} = check.options(start, 'the options of start', ['offset', 'time'])
  if ((offset === undefined) === (time === undefined)) {
    throw check.invalid(`start is ${check.shown(start)}: ${STARTS.join(', ')}, {offset} or {time}`)
  }
  const at = offset ?? (time instanceof Date ? BigInt(time.getTime()) * 1_000_000n : time)
  if (typeof at !== 'bigint' || at < 0n || at >= 2n ** 64n) {
    throw check.invalid('start has an offset or time that is no bigint from 0n on; a time can be a Date too')
  }
  return [offset === undefined ? 'time' : 'offset', at]
}

/** Whether a message is given with more than its body. */
function isFull(message) {
  return typeof message === 'object' && message !== null && !ArrayBuffer.isView(message) && !(message instanceof ArrayBuffer)
}

/** A client of brokers, or of one in this process. */
class Client {
  #native
  #publishTimeout
  #subscriptions = new Set()
  /** Publishes in their order, from `#first` on: those before have an outcome. */
  #publishes = []
  #first = 0
  #timer = null
  #isClosed = false
  #closing = null
  /** Called when no publish is under way any more. */
  #onIdle = null

  constructor(native_, publishTimeout) {
    this.#native = native_
    this.#publishTimeout = publishTimeout
  }

  /** Publishes a message or a list of them. Returns once they are stored. */
  async publish(topic, message, options) {
    const list = Array.isArray(message)
    const receipts = await this.#begin(topic, message, options, list)
    if (receipts instanceof Failure) throw receipts.error()
    return list ? receipts : receipts[0]
  }

  #begin(topic, message, options, list) {
    check.string(topic, 'the topic')
    if (this.#isClosed) return new Failure('CLOSED', 'the client is closed', false)
    if (!list && options === undefined && !isFull(message)) {
      return this.#outcome(this.#native.publishBody(topic, check.bytes(message, 'the message')))
    }
    const common = check.options(options, 'the options of publish', ['headers', 'id', 'delay'])
    const messages = list ? message : [message]
    if (messages.length === 0) return []
    if (list && common.id !== undefined) {
      throw check.invalid('a list has one id for all: give each message its own, as {body, id}')
    }
    const bodies = new Array(messages.length)
    const [ids, headers, delays] = [[], [], []]
    const commonHeaders = check.headers(common.headers)
    for (let at = 0; at < messages.length; at++) {
      const one = messages[at]
      if (!isFull(one)) {
        bodies[at] = check.bytes(one, 'a message')
        if (common.id !== undefined) ids[at] = check.bytes(common.id, 'id')
        if (commonHeaders !== undefined) headers[at] = commonHeaders
        if (common.delay !== undefined) delays[at] = check.ms(common.delay, 'delay')
        continue
      }
      check.options(one, 'a message', MESSAGE_KEYS)
      bodies[at] = check.bytes(one.body, 'the body of a message')
      const [id, delay] = [one.id ?? common.id, one.delay ?? common.delay]
      if (id !== undefined) ids[at] = check.bytes(id, 'id')
      if (delay !== undefined) delays[at] = check.ms(delay, 'delay')
      const own = check.headers(one.headers)
      if (own ?? commonHeaders) headers[at] = [...(commonHeaders ?? []), ...(own ?? [])]
    }
    const delayed = delays.length === 0 ? undefined : Array.from(bodies, (_, at) => delays[at] ?? 0)
    return this.#outcome(this.#native.publish(topic, bodies, ids, headers, delayed))
  }

  /** Waits for a publish, at most as long as one may take. */
  #outcome(number) {
    hold()
    return new Promise((resolve) => {
      const publish = {number, deadline: performance.now() + this.#publishTimeout, resolve, isDone: false}
      this.#publishes.push(publish)
      waiting.set(number, (outcome) => this.#settle(publish, outcome))
      if (this.#timer === null) this.#watch()
    })
  }

  #settle(publish, outcome) {
    publish.isDone = true
    release()
    publish.resolve(outcome)
    const publishes = this.#publishes
    while (this.#first < publishes.length && publishes[this.#first].isDone) this.#first++
    if (this.#first === publishes.length) {
      this.#publishes = []
      this.#first = 0
      this.#onIdle?.()
    } else if (this.#first > DONE_MAX && 2 * this.#first > publishes.length) {
      this.#publishes = publishes.slice(this.#first)
      this.#first = 0
    }
  }

  /** Gives up the publishes that take too long, and looks again when the next one may. */
  #watch() {
    const now = performance.now()
    this.#giveUp((publish) => publish.deadline <= now, `in ${this.#publishTimeout} ms`)
    const next = this.#publishes[this.#first]
    if (next === undefined) {
      this.#timer = null
      return
    }
    this.#timer = setTimeout(() => this.#watch(), Math.max(next.deadline - now, 1))
    // The publishes keep the process alive.
    this.#timer.unref()
  }

  #giveUp(isLate, when) {
    while (this.#first < this.#publishes.length && isLate(this.#publishes[this.#first])) {
      const publish = this.#publishes[this.#first]
      waiting.delete(publish.number)
      const failure = this.#native.cancel(publish.number)
        ? new Failure('TIMEOUT', `out of time: the publish waited for room in the buffer, and was not sent ${when}`, true)
        : new Failure('UNKNOWN_OUTCOME', `no broker has answered ${when}: the message may be stored or not`, false)
      this.#settle(publish, failure)
    }
  }

  /** Subscribes to a channel. */
  subscribe(topic, channel, options) {
    const known = ['maxInFlight', 'msgTimeout', 'start', 'signal']
    const given = check.options(options, 'the options of subscribe', known)
    const {maxInFlight = 200, msgTimeout = 60_000, start = 'waiting', signal} = given
    check.string(topic, 'the topic')
    check.string(channel, 'the channel')
    check.count(maxInFlight, 'maxInFlight', 1, 1_000_000)
    check.ms(msgTimeout, 'msgTimeout')
    check.signal(signal)
    const [kind, at] = startOf(start)
    if (this.#isClosed) throw new MqError('CLOSED', 'the client is closed')
    const open = () => this.#native.subscribe(topic, channel, maxInFlight, msgTimeout, kind, at)
    const subscription = new Subscription(open, (ended) => this.#subscriptions.delete(ended), {topic, channel, maxInFlight, signal})
    if (!subscription.isClosed) this.#subscriptions.add(subscription)
    return subscription
  }

  /** Ends subscriptions, waits for publishes, and stops a broker in this process. */
  async close(options) {
    const {timeout = CLOSE_TIMEOUT_MS} = check.options(options, 'the options of close', ['timeout'])
    check.ms(timeout, 'timeout')
    this.#closing ??= this.#close(timeout)
    const failure = await this.#closing
    if (failure !== undefined) throw failure.error()
  }

  async #close(timeout) {
    this.#isClosed = true
    const began = performance.now()
    const left = () => Math.max(timeout - (performance.now() - began), 0)
    flushAll()
    const ended = await Promise.all(Array.from(this.#subscriptions, (each) => each.close({timeout})))
    if (this.#publishes.length > 0) {
      await new Promise((resolve) => {
        const timer = setTimeout(resolve, left())
        this.#onIdle = () => {
          clearTimeout(timer)
          resolve()
        }
      })
    }
    const unfinished = this.#publishes.length - this.#first
    this.#giveUp(() => true, 'before the client was closed')
    clearTimeout(this.#timer)
    const closed = await outcomeOf(this.#native.close(left()))
    if (unfinished > 0) {
      return new Failure('TIMEOUT', `out of time: ${unfinished} publishes had no outcome in ${timeout} ms`, true)
    }
    if (closed instanceof Failure) return closed
    const late = ended.filter((isOver) => !isOver).length
    if (late > 0) return new Failure('TIMEOUT', `out of time: ${late} subscriptions did not end in ${timeout} ms`, true)
    return undefined
  }

  async createTopic(topic) {
    await this.#change('create', topic)
  }

  async deleteTopic(topic) {
    await this.#change('delete', topic)
  }

  async emptyTopic(topic) {
    await this.#change('empty', topic)
  }

  async pauseTopic(topic) {
    await this.#change('pause', topic)
  }

  async unpauseTopic(topic) {
    await this.#change('unpause', topic)
  }

  async createChannel(topic, channel) {
    await this.#change('create', topic, check.string(channel, 'the channel'))
  }

  async deleteChannel(topic, channel) {
    await this.#change('delete', topic, check.string(channel, 'the channel'))
  }

  async emptyChannel(topic, channel) {
    await this.#change('empty', topic, check.string(channel, 'the channel'))
  }

  async pauseChannel(topic, channel) {
    await this.#change('pause', topic, check.string(channel, 'the channel'))
  }

  async unpauseChannel(topic, channel) {
    await this.#change('unpause', topic, check.string(channel, 'the channel'))
  }

  async #change(call, topic, channel) {
    await this.#call(() => this.#native.change(call, check.string(topic, 'the topic'), channel))
  }

  /** The numbers of topics and channels. */
  async stats() {
    const text = await this.#call(() => this.#native.stats())
    const camel = (name) => name.replace(/_(.)/g, (_, letter) => letter.toUpperCase())
    const renamed = (value) =>
      Array.isArray(value)
        ? value.map(renamed)
        : typeof value === 'object' && value !== null
          ? Object.fromEntries(Object.entries(value).map(([name, one]) => [camel(name), renamed(one)]))
          : value
    return renamed(JSON.parse(text))
  }

  /** Moves a test clock on. */
  async [ADVANCE](ms) {
    await this.#call(() => this.#native.advance(check.ms(ms, 'the time')))
  }

  async #call(begin) {
    flushAll()
    const outcome = await outcomeOf(begin())
    if (outcome instanceof Failure) throw outcome.error()
    return outcome
  }

  get isClosed() {
    return this.#isClosed
  }

  async [Symbol.asyncDispose]() {
    await this.close()
  }
}

module.exports = {connect, open, Client, ADVANCE}
