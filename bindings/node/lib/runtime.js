'use strict'
// The addon in this environment (the main thread, or a worker thread): numbered tasks, and a wake-up for all
// that have an outcome.

const {load} = require('./native')
const {Failure} = require('./error')

const {Runtime} = load()
const native = new Runtime(settle)

/** For each task that runs whoever takes its outcome, by `take`. */
const waiting = new Map()

/** Whatever has answers to give before something ends. */
const unflushed = new Set()

let holds = 0

/** Takes all outcomes that are there. */
function settle() {
  const [receipts, offsets, brokers, problems, failures, values] = native.drain()
  if (receipts !== null) settlePublishes(receipts, offsets, brokers, problems)
  if (failures !== null) {
    for (let at = 0; at < failures.length; at += 4) {
      take(failures[at], new Failure(failures[at + 1], failures[at + 2], failures[at + 3]))
    }
  }
  if (values !== null) for (let at = 0; at < values.length; at += 2) take(values[at], values[at + 1])
}

function settlePublishes(receipts, offsets, brokers, problems) {
  for (let at = 0, place = 0; at < receipts.length; ) {
    const [number, count] = [receipts[at], receipts[at + 1]]
    at += 2
    const taker = waiting.get(number)
    if (taker === undefined) {
      at += count
      place += count
      continue
    }
    waiting.delete(number)
    const list = new Array(count)
    for (let n = 0; n < count; n++, at++, place++) {
      const [flags, rest] = [receipts[at] & 7, receipts[at] >>> 3]
      list[n] = (flags & 4) === 0
        ? {offset: (flags & 2) === 0 ? undefined : offsets[place], duplicate: (flags & 1) === 1, broker: brokers[rest]}
        : new Failure(problems[rest], problems[rest + 1], problems[rest + 2])
    }
    taker.take(list)
  }
}

function take(number, outcome) {
  const taker = waiting.get(number)
  waiting.delete(number)
  taker?.take(outcome)
}

/** A number of 64 bits. */
function wide(low, high) {
  // Exact up to 2^53, and quicker.
  return high < 0x200000 ? BigInt(high * 0x100000000 + low) : (BigInt(high) << 32n) | BigInt(low)
}

/** Waits for a task's outcome, which may be a Failure; the process stays alive meanwhile. */
function outcomeOf(number) {
  hold()
  return new Promise((resolve) => {
    const take = (outcome) => {
      release()
      resolve(outcome)
    }
    waiting.set(number, {take})
  })
}

/** What happens to the connections of a client or subscription of the addon, until `end`. */
class Watch {
  #native
  #listener

  /** `listener` is called with lists of events. */
  constructor(native_, listener) {
    this.#native = native_
    this.#listener = listener
    this.drain()
  }

  /** Tells at once of what has happened. */
  drain() {
    if (this.#native === null) return
    const events = this.#native.pollEvents()
    waiting.set(this.#native.events, {take: (later) => this.#take(later)})
    if (events !== null) this.#take(events)
  }

  #take(events) {
    process.nextTick(this.#listener, events)
    this.drain()
  }

  /** Ends it. What comes is told to nobody. */
  end() {
    if (this.#native !== null) waiting.delete(this.#native.events)
    this.#native = null
  }
}

/** Keeps the process alive until as many calls of `release`. */
function hold() {
  if (holds++ === 0) native.keepAlive(true)
}

function release() {
  if (--holds === 0) native.keepAlive(false)
}

/**
 * Calls `flush` of `holder` soon: at the end of this turn of the event loop, after whoever fetches more messages then, so
 * that the answers to those go out with it. Each time that answers go out wakes two threads.
 */
function flushSoon(holder) {
  if (unflushed.size === 0) process.nextTick(flushLater)
  unflushed.add(holder)
}

function flushLater() {
  setImmediate(flushAll)
}

/** Gives all answers that wait to be given. Returns whether there were any. */
function flushAll() {
  if (unflushed.size === 0) return false
  for (const holder of unflushed) holder.flush()
  unflushed.clear()
  return true
}

// What is open ends in order, as far as that can be done without a turn of the event loop.
process.on('exit', () => {
  flushAll()
  native.end()
})

module.exports = {native, waiting, wide, outcomeOf, Watch, hold, release, flushSoon, flushAll}
