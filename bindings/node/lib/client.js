'use strict'
// A client: it publishes in order, and opens subscriptions.

const check = require('./check')
const {MqError, Failure} = require('./error')
const {native, waiting, outcomeOf, Watch, hold, release, flushAll} = require('./runtime')
const settings = require('./settings')
const {Subscription} = require('./subscription')
const {headersOfContext} = require('./trace')

const MESSAGE_KEYS = ['body', 'headers', 'id', 'delay']
const STARTS = ['waiting', 'earliest', 'latest']
const CLOSE_TIMEOUT_MS = 30_000
/** Name of a call that `libmq/testing` makes public. */
const ADVANCE = Symbol('advance')
/** Name of the call that connects now, and tells what happens to the connection. */
const WATCH = Symbol('watch')
/** Bytes and number of messages that go to the addon in one call. */
const CHUNK_BYTES = 32 * 1024
const CHUNK_MESSAGES = 500
/** Most bytes of UTF-8 that a unit of UTF-16 becomes. */
const UNIT_BYTES = 3
/** Bytes of a list that is packed before it goes to the addon: larger ones would be copied in vain. */
const PACKED_BYTES = 1024 * 1024
/** Longest time of a timer. */
const TIMER_MAX_MS = 2 ** 31 - 1
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
  return new Class(opened, own)
}

/** The first message of a channel that is created, as the addon takes it: a kind and a number. */
function startOf(start) {
  if (STARTS.includes(start)) return [start, 0n]
  const {offset, time} = check.options(start, 'the options of start', ['offset', 'time'])
  if ((offset === undefined) === (time === undefined)) {
    throw check.invalid(`start is ${check.shown(start)}: ${STARTS.join(', ')}, {offset} or {time}`)
  }
  if (time instanceof Date && Number.isNaN(time.getTime())) throw check.invalid('start.time is an invalid Date')
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

/** A publish on its way, of `count` calls. */
class Sending {
  isDone = false
  /** Set where a publish has a time of its own: the others share one timer. */
  timer = null

  constructor(number, deadline, count, resolve, settle) {
    this.number = number
    this.deadline = deadline
    this.count = count
    this.resolve = resolve
    this.settle = settle
  }

  take(outcome) {
    this.settle(this, outcome)
  }
}

/** Messages of several calls that go to the addon in one. They wait together, for a Failure or the outcome of each. */
class Group {
  count = 0

  constructor() {
    this.outcomes = new Promise((resolve) => (this.resolve = resolve))
  }
}

/** Memory from which lists go to the addon, which copies them at once: bodies one after the other, and their ends. */
const packed = {bytes: Buffer.alloc(0), ends: new Uint32Array(0)}

/** Packs plain bodies. Returns how many bytes they take, or -1 if one is something else, or they are too many. */
function pack(bodies) {
  if (bodies.length > PACKED_BYTES) return -1
  if (packed.ends.length < bodies.length) packed.ends = new Uint32Array(Math.min(Math.max(2 * packed.ends.length, bodies.length), PACKED_BYTES))
  const ends = packed.ends
  let [bytes, used] = [packed.bytes, 0]
  for (let at = 0; at < bodies.length; at++) {
    const body = bodies[at]
    const isText = typeof body === 'string'
    if (isText ? !check.isWellFormed(body) : !(body instanceof Uint8Array)) return -1
    const most = used + (isText ? UNIT_BYTES : 1) * body.length
    if (most > bytes.length) {
      if (most > PACKED_BYTES) return -1
      const larger = Buffer.allocUnsafeSlow(Math.min(Math.max(2 * bytes.length, most), PACKED_BYTES))
      larger.set(bytes.subarray(0, used))
      packed.bytes = bytes = larger
    }
    if (isText) used += bytes.utf8Write(body, used)
    else {
      bytes.set(body, used)
      used += body.length
    }
    ends[at] = used
  }
  return used
}

/** A client of brokers, or of one in this process. */
class Client {
  #native
  #publishTimeout
  /** Whether messages get the context of OpenTelemetry. */
  #hasTraces
  #subscriptions = new Set()
  /** What was published in their order, from `#first` on: those before have an outcome. */
  #sendings = []
  #first = 0
  #timer = null
  /** Topic of messages that go to the addon at the end of this turn of the event loop, their calls and their bytes. */
  #topic = ''
  #group = new Group()
  #bytes = null
  #used = 0
  #ends = null
  #isFlushing = false
  #isClosed = false
  #closing = null
  /** Tells what happens to the connection that publishes. */
  #events = null
  /** Called when no publish is under way any more. */
  #onIdle = null

  constructor(native_, {publishTimeout, traceHeaders}) {
    this.#native = native_
    this.#publishTimeout = publishTimeout
    this.#hasTraces = traceHeaders
  }

  /** Publishes a message or a list of them. Returns once they are stored. */
  async publish(topic, message, options) {
    const isList = Array.isArray(message)
    const trace = this.#hasTraces ? headersOfContext() : undefined
    let outcome
    if (isList || options !== undefined || trace !== undefined || isFull(message)) {
      outcome = await this.#begin(topic, message, options, isList, trace)
      if (!isList && !(outcome instanceof Failure)) outcome = outcome[0]
    } else {
      const group = this.#join(topic, message)
      const at = group.count - 1
      const outcomes = await group.outcomes
      outcome = outcomes instanceof Failure ? outcomes : outcomes[at]
    }
    if (outcome instanceof Failure) throw outcome.error()
    return outcome
  }

  /** Adds a message that has nothing but a body to others of this turn, as the last of its group. */
  #join(topic, message) {
    check.string(topic, 'the topic')
    const body = check.bytes(message, 'the message')
    if (this.#isClosed) throw new MqError('CLOSED', 'the client is closed')
    if (body.length === 0) throw check.invalid("a message can't be empty")
    const most = (typeof body === 'string' ? UNIT_BYTES : 1) * body.length
    if (most > CHUNK_BYTES) {
      this.#flush()
      const [large, group] = [Buffer.from(body), new Group()]
      group.count = 1
      this.#add(this.#native.publishBodies(topic, large, new Uint32Array([large.length]), true), 1, group.resolve)
      return group
    }
    const isOther = this.#topic !== topic || this.#group.count === CHUNK_MESSAGES || this.#used + most > CHUNK_BYTES
    if (isOther) this.#flush()
    this.#topic = topic
    this.#bytes ??= Buffer.allocUnsafeSlow(CHUNK_BYTES)
    this.#ends ??= new Uint32Array(CHUNK_MESSAGES)
    if (typeof body === 'string') this.#used += this.#bytes.utf8Write(body, this.#used)
    else {
      // The caller may use its memory again at once.
      this.#bytes.set(body, this.#used)
      this.#used += body.length
    }
    const group = this.#group
    this.#ends[group.count++] = this.#used
    if (!this.#isFlushing) {
      this.#isFlushing = true
      process.nextTick(this.#flushSoon)
    }
    return group
  }

  #flushSoon = () => {
    this.#isFlushing = false
    this.#flush()
  }

  #flush() {
    const {count, resolve} = this.#group
    if (count === 0) return
    const bodies = this.#bytes.subarray(0, this.#used)
    const number = this.#native.publishBodies(this.#topic, bodies, this.#ends.subarray(0, count), true)
    this.#group = new Group()
    this.#used = 0
    this.#add(number, count, resolve)
  }

  #begin(topic, message, options, isList, trace) {
    check.string(topic, 'the topic')
    if (this.#isClosed) return new Failure('CLOSED', 'the client is closed', false)
    const common = check.options(options, 'the options of publish', ['headers', 'id', 'delay', 'timeout'])
    const timeout = common.timeout === undefined ? undefined : check.ms(common.timeout, 'timeout')
    const messages = isList ? message : [message]
    if (messages.length === 0) return []
    if (isList && common.id !== undefined) {
      throw check.invalid('a list has one id for all: give each message its own, as {body, id}')
    }
    const isPlain = isList && options === undefined && trace === undefined
    const used = isPlain ? pack(messages) : -1
    if (used >= 0) {
      this.#flush()
      const [bytes, ends] = [packed.bytes.subarray(0, used), packed.ends.subarray(0, messages.length)]
      return this.#outcome(this.#native.publishBodies(topic, bytes, ends, false))
    }
    const bodies = new Array(messages.length)
    const [ids, headers, delays] = [[], [], []]
    const own = check.headers(common.headers)
    const commonHeaders = trace === undefined ? own : [...trace, ...(own ?? [])]
    for (let at = 0; at < messages.length; at++) {
      const one = messages[at]
      if (!isFull(one)) {
        bodies[at] = check.bytes(one, 'a message')
        if (common.id !== undefined) ids[at] = check.bytes(common.id, 'id')
        if (commonHeaders !== undefined) headers[at] = commonHeaders
        if (common.delay !== undefined) delays[at] = check.ms(common.delay, 'delay')
        continue
      }
      check.options(one, 'the fields of a message', MESSAGE_KEYS)
      bodies[at] = check.bytes(one.body, 'the body of a message')
      const [id, delay] = [one.id ?? common.id, one.delay ?? common.delay]
      if (id !== undefined) ids[at] = check.bytes(id, 'id')
      if (delay !== undefined) delays[at] = check.ms(delay, 'delay')
      const own = check.headers(one.headers)
      if (own ?? commonHeaders) headers[at] = [...(commonHeaders ?? []), ...(own ?? [])]
    }
    const delayed = delays.length === 0 ? undefined : Array.from(bodies, (_, at) => delays[at] ?? 0)
    this.#flush()
    return this.#outcome(this.#native.publish(topic, bodies, ids, headers, delayed), timeout)
  }

  /** The outcome of one call. */
  #outcome(number, timeout) {
    return new Promise((resolve) => this.#add(number, 1, resolve, timeout))
  }

  /** Waits for publishes, at most as long as one may take, or these. They keep the process alive. */
  #add(number, count, resolve, timeout) {
    hold()
    const sending = new Sending(number, performance.now() + this.#publishTimeout, count, resolve, this.#settle)
    this.#sendings.push(sending)
    waiting.set(number, sending)
    if (timeout !== undefined) {
      sending.timer = setTimeout(() => this.#giveUp([sending], `in ${timeout} ms`), Math.min(timeout, TIMER_MAX_MS))
      sending.timer.unref()
    } else if (this.#timer === null) this.#watch()
  }

  #settle = (sending, outcome) => {
    sending.isDone = true
    if (sending.timer !== null) clearTimeout(sending.timer)
    release()
    sending.resolve(outcome)
    // It may stay in the list for a while, and holds the outcome no longer.
    sending.resolve = null
    const sendings = this.#sendings
    while (this.#first < sendings.length && sendings[this.#first].isDone) this.#first++
    if (this.#first === sendings.length) {
      this.#sendings = []
      this.#first = 0
      this.#onIdle?.()
    } else if (this.#first > DONE_MAX && 2 * this.#first > sendings.length) {
      this.#sendings = sendings.slice(this.#first)
      this.#first = 0
    }
  }

  /** Gives up the publishes that take too long, and looks again when the next one may. */
  #watch() {
    const now = performance.now()
    const late = []
    let next
    for (let at = this.#first; at < this.#sendings.length && next === undefined; at++) {
      const sending = this.#sendings[at]
      if (sending.isDone || sending.timer !== null) continue
      // A timer cannot wait for less than a millisecond.
      if (sending.deadline < now + 1) late.push(sending)
      else next = sending
    }
    this.#giveUp(late, `in ${this.#publishTimeout} ms`)
    if (next === undefined) {
      this.#timer = null
      return
    }
    this.#timer = setTimeout(() => this.#watch(), next.deadline - now)
    // The publishes keep the process alive.
    this.#timer.unref()
  }

  #giveUp(sendings, when) {
    const late = sendings.filter(({isDone}) => !isDone)
    if (late.length === 0) return
    for (const {number} of late) waiting.delete(number)
    const reasons = this.#native.cancel(late.map(({number}) => number))
    for (const [at, why] of reasons.entries()) {
      const failure = why !== null
        ? new Failure('TIMEOUT', `${why}; the publish was not sent ${when}`, true)
        : new Failure('UNKNOWN_OUTCOME', `no broker has answered ${when}: the message may be stored or not`, false)
      this.#settle(late[at], failure)
    }
  }

  /** Subscribes to a channel. */
  subscribe(topic, channel, options) {
    const known = ['maxInFlight', 'msgTimeout', 'sampleRate', 'start', 'maxMessageBytes', 'maxInFlightBytes', 'signal']
    const given = check.options(options, 'the options of subscribe', known)
    const {maxInFlight = 200, msgTimeout = 60_000, sampleRate = 0, start = 'waiting', signal} = given
    const {maxMessageBytes = 0, maxInFlightBytes = 0} = given
    check.string(topic, 'the topic')
    check.string(channel, 'the channel')
    check.count(maxInFlight, 'maxInFlight', 1, 1_000_000)
    if (msgTimeout !== null && check.ms(msgTimeout, 'msgTimeout') === 0) {
      throw check.invalid("msgTimeout is 0: at least 1000, or null for the brokers' own")
    }
    check.count(sampleRate, 'sampleRate', 0, 99)
    check.count(maxMessageBytes, 'maxMessageBytes', 0, 2 ** 32 - 1)
    check.count(maxInFlightBytes, 'maxInFlightBytes', 0, Number.MAX_SAFE_INTEGER)
    check.signal(signal)
    const [kind, at] = startOf(start)
    if (this.#isClosed) throw new MqError('CLOSED', 'the client is closed')
    this.#flush()
    const bounds = {maxInFlight, maxMessageBytes, maxInFlightBytes}
    const settings_ = {...bounds, msgTimeoutMs: msgTimeout ?? 0, sampleRate, start: kind, startAt: at}
    const open = () => this.#native.subscribe(topic, channel, settings_)
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
    this.#flush()
    const began = performance.now()
    const left = () => Math.max(timeout - (performance.now() - began), 0)
    flushAll()
    const ended = await Promise.all(Array.from(this.#subscriptions, (each) => each.close({timeout})))
    if (this.#sendings.length > 0) {
      await new Promise((resolve) => {
        const timer = setTimeout(resolve, left())
        this.#onIdle = () => {
          clearTimeout(timer)
          resolve()
        }
      })
    }
    const unfinished = this.#sendings.slice(this.#first).reduce((sum, {count}) => sum + count, 0)
    this.#giveUp(this.#sendings.slice(this.#first), 'before the client was closed')
    clearTimeout(this.#timer)
    this.#events?.end()
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

  /** The settings of a topic. */
  async topicSettings(topic) {
    check.string(topic, 'the topic')
    const text = await this.#call(() => this.#native.topicSettings(topic))
    const [durability, maxMessages, maxBytes, maxAge, overflow, dedupWindow, dedupMaxIds] = JSON.parse(text)
    return {durability, maxMessages, maxBytes, maxAge, overflow, dedupWindow: dedupWindow ?? undefined, dedupMaxIds: dedupMaxIds ?? undefined}
  }

  /** Changes the settings of a topic, all at once. */
  async setTopicSettings(topic, given) {
    check.string(topic, 'the topic')
    const values = settings.ofTopic(given)
    await this.#call(() => this.#native.setTopicSettings(topic, values))
  }

  /** The settings of a channel. */
  async channelSettings(topic, channel) {
    check.string(topic, 'the topic')
    check.string(channel, 'the channel')
    const [maxAttempts, deadLetterTopic, redeliveryDelay] = JSON.parse(await this.#call(() => this.#native.channelSettings(topic, channel)))
    return {maxAttempts, deadLetterTopic: deadLetterTopic ?? undefined, redeliveryDelay}
  }

  /** Changes the settings of a channel, all at once. */
  async setChannelSettings(topic, channel, settings) {
    check.string(topic, 'the topic')
    check.string(channel, 'the channel')
    const known = ['maxAttempts', 'deadLetterTopic', 'redeliveryDelay']
    const {maxAttempts = 0, deadLetterTopic, redeliveryDelay = 1000} = check.options(settings, "the channel's settings", known)
    check.count(maxAttempts, 'maxAttempts', 0, 65_535)
    if (deadLetterTopic !== undefined) check.string(deadLetterTopic, 'deadLetterTopic')
    check.ms(redeliveryDelay, 'redeliveryDelay')
    await this.#call(() => this.#native.setChannelSettings(topic, channel, maxAttempts, deadLetterTopic, redeliveryDelay))
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

  /** Serves a broker in this process to others. */
  async serve(settings) {
    const flags = Object.entries(check.options(settings, 'the settings of serve')).map(([name, value]) => {
      if (!['string', 'number', 'boolean'].includes(typeof value)) {
        throw check.invalid(`${name} is ${check.shown(value)}: a string, number or boolean`)
      }
      return `--${name.replace(/[A-Z]/g, (letter) => `-${letter.toLowerCase()}`)}=${value}`
    })
    const [tcp, http, https, grpc] = JSON.parse(await this.#call(() => this.#native.serve(flags)))
    const none = (address) => address ?? undefined
    return {tcp, http: none(http), https: none(https), grpc: none(grpc)}
  }

  /** Connects now, and again whenever the connection is lost. Calls `listener` with what happens to it. */
  [WATCH](listener) {
    this.#native.stayConnected()
    this.#events = new Watch(this.#native, listener)
    return this.#events
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

module.exports = {connect, open, Client, ADVANCE, WATCH}
