'use strict'
// A worker: messages of a channel through a handler, until a signal ends it.

const {constants} = require('node:os')

const check = require('./check')
const {connect} = require('./client')
const {inContextOf} = require('./trace')

const KNOWN = [
  'url', 'client', 'connect', 'topic', 'channel', 'concurrency', 'msgTimeout', 'maxAttempts', 'requeueDelay', 'backoff',
  'giveUp', 'onError', 'drainTimeout', 'signals', 'signal'
]
const REQUEUE_MAX_MS = 15 * 60 * 1000

/** Doubles with each attempt, from a second on. */
function requeueDelayOf(attempts) {
  return Math.min(1000 * 2 ** Math.min(attempts - 1, 30), REQUEUE_MAX_MS)
}

function report(error, message) {
  console.error(`libmq: message ${message.id} failed at attempt ${message.attempts}:`, error)
}

function settings(handler, options) {
  if (typeof handler !== 'function') throw check.invalid(`the handler is ${check.shown(handler)}: a function`)
  const given = check.options(options, 'the options of run', KNOWN)
  const {concurrency = 10, msgTimeout = 60_000, maxAttempts = Infinity, requeueDelay = requeueDelayOf} = given
  const {backoff = {}, giveUp, onError = report, drainTimeout = 10_000, signals = ['SIGTERM', 'SIGINT']} = given
  const {min = 100, max = 10_000} = check.options(backoff, 'the options of backoff', ['min', 'max'])
  if ((given.url === undefined) === (given.client === undefined)) throw check.invalid('run needs either a url or a client')
  check.count(concurrency, 'concurrency', 1, 100_000)
  if (maxAttempts !== Infinity) check.count(maxAttempts, 'maxAttempts', 1, 65_534)
  check.ms(msgTimeout, 'msgTimeout')
  check.ms(drainTimeout, 'drainTimeout')
  check.ms(min, 'backoff.min')
  check.ms(max, 'backoff.max')
  if (typeof requeueDelay !== 'function') check.ms(requeueDelay, 'requeueDelay')
  for (const [name, hook] of Object.entries({giveUp, onError})) {
    if (hook !== undefined && typeof hook !== 'function') throw check.invalid(`${name} is ${check.shown(hook)}: a function`)
  }
  for (const name of signals) {
    if (!(name in constants.signals)) throw check.invalid(`signals has ${check.shown(name)}: names such as SIGTERM`)
  }
  check.signal(given.signal)
  return {...given, concurrency, msgTimeout, maxAttempts, requeueDelay, min, max, giveUp, onError, drainTimeout, signals}
}

/** Runs a worker to its end. Returns how many messages it finished, requeued and gave up. */
async function run(handler, options) {
  const set = settings(handler, options)
  const client = set.client ?? (await connect(set.url, set.connect))
  try {
    const {topic, channel, concurrency: maxInFlight, msgTimeout} = set
    const subscription = client.subscribe(topic, channel, {maxInFlight, msgTimeout})
    return await new Worker(handler, set, subscription).run()
  } finally {
    if (set.client === undefined) await client.close()
  }
}

/** The handlers that run, and the pauses between them. */
class Worker {
  #handler
  #set
  #subscription
  #counts = {finished: 0, requeued: 0, givenUp: 0}
  #active = new Set()
  #isStopping = false
  #timer
  /** Aborted when handlers have no more time. */
  #deadline = new AbortController()
  /** Functions that let a lane go whose handler has no more time. */
  #releases = new Set()
  /** Failures more than successes since all went well: each doubles the pause. */
  #level = 0
  #pausedUntil = 0
  #isProbing = false
  /** Functions that wake whoever waits for a change. */
  #wakes = new Set()

  constructor(handler, set, subscription) {
    this.#handler = handler
    this.#set = set
    this.#subscription = subscription
  }

  async run() {
    const {signals, signal, concurrency, msgTimeout} = this.#set
    const stop = () => this.#stop()
    signals.forEach((name) => process.on(name, stop))
    signal?.addEventListener('abort', stop)
    if (signal?.aborted) this.#stop()
    // A handler may take longer than the timeout of a message.
    const touching = setInterval(() => this.#active.forEach((message) => message.touch()), Math.max(msgTimeout / 3, 1))
    try {
      await Promise.all(Array.from({length: concurrency}, () => this.#lane()))
    } catch (error) {
      this.#stop()
      throw error
    } finally {
      clearInterval(touching)
      clearTimeout(this.#timer)
      signals.forEach((name) => process.off(name, stop))
      signal?.removeEventListener('abort', stop)
      await this.#subscription.close()
    }
    return this.#counts
  }

  /** Takes no more. Those at work have until the deadline; a second call ends them at once. */
  #stop() {
    if (this.#isStopping) {
      this.#end()
      return
    }
    this.#isStopping = true
    this.#wake()
    if (this.#active.size === 0) {
      this.#end()
      return
    }
    this.#timer = setTimeout(() => this.#end(), this.#set.drainTimeout)
  }

  /** Gives back what is not answered. */
  #end() {
    this.#deadline.abort()
    this.#releases.forEach((release) => release())
    this.#subscription.close().catch(() => {})
  }

  async #lane() {
    while (await this.#mayGoOn()) {
      const {done, value: message} = await this.#subscription.next()
      // One that comes now goes back with the subscription.
      if (done || this.#isStopping) return
      this.#active.add(message)
      await new Promise((resolve) => {
        this.#releases.add(resolve)
        this.#work(message).then(() => {
          this.#releases.delete(resolve)
          resolve()
        })
        if (this.#deadline.signal.aborted) resolve()
      })
      this.#active.delete(message)
      if (this.#isStopping && this.#active.size === 0) this.#end()
    }
  }

  /** Waits while there is a pause; one message at a time follows it. Returns whether to go on. */
  async #mayGoOn() {
    for (;;) {
      if (this.#isStopping) return false
      if (this.#level === 0) return true
      const left = this.#pausedUntil - performance.now()
      if (left <= 0 && !this.#isProbing) {
        this.#isProbing = true
        return true
      }
      await new Promise((resolve) => {
        const wake = () => {
          clearTimeout(timer)
          this.#wakes.delete(wake)
          resolve()
        }
        const timer = left > 0 ? setTimeout(wake, left) : undefined
        this.#wakes.add(wake)
      })
    }
  }

  #wake() {
    for (const wake of [...this.#wakes]) wake()
  }

  async #work(message) {
    try {
      await inContextOf(message, () => this.#handler(message, {signal: this.#deadline.signal}))
    } catch (error) {
      // After the deadline the message is back already.
      if (!this.#deadline.signal.aborted) await this.#failed(message, error)
      return
    }
    if (this.#deadline.signal.aborted && !message.isAnswered) return
    message.finish()
    this.#counts.finished++
    if (this.#level > 0 && performance.now() >= this.#pausedUntil) {
      this.#level--
      this.#isProbing = false
      this.#wake()
    }
  }

  async #failed(message, error) {
    const {maxAttempts, giveUp, onError, requeueDelay, min, max} = this.#set
    let isGivenUp = false
    let delay = requeueDelayOf(message.attempts)
    try {
      onError?.(error, message)
      if (typeof requeueDelay !== 'function') delay = requeueDelay
      else delay = check.ms(requeueDelay(message.attempts), 'the result of requeueDelay')
      if (message.attempts >= maxAttempts) {
        await giveUp?.(message, error)
        isGivenUp = true
      }
    } catch (failure) {
      // A hook that fails gives up nothing, and has its next turn later each time.
      report(failure, message)
      delay = Math.max(delay, requeueDelayOf(message.attempts))
    }
    if (isGivenUp) {
      message.finish()
      this.#counts.givenUp++
    } else {
      message.requeue({delay})
      this.#counts.requeued++
    }
    // Those that fail while a pause goes on began before it.
    if (performance.now() >= this.#pausedUntil) {
      this.#level++
      // Up to a half at random, so that many workers do not come back together.
      const pause = Math.min(min * 2 ** Math.min(this.#level - 1, 30), max) * (0.5 + Math.random() / 2)
      this.#pausedUntil = performance.now() + pause
      this.#isProbing = false
    }
    this.#wake()
  }
}

module.exports = {run}
