'use strict'
// A writer: publishes to one broker, and connects to it again whenever it is lost.

const {EventEmitter} = require('node:events')

const check = require('../check')
const {open, Client, WATCH} = require('../client')
const {hold, release} = require('../runtime')
const {ConnectionConfig, joinHostPort, isString} = require('./config')
const {errorOf, tell} = require('./errors')

const CLOSE_TIMEOUT_MS = 5000

/** One time that a writer is open: from connect to close. */
class Session {
  client = null
  /** Fulfilled with the client. */
  opened = null
}

/** A publisher to one broker. */
class Writer extends EventEmitter {
  #session = null
  #warned = new Set()
  #closing = Promise.resolve()

  static get READY() {
    return 'ready'
  }
  static get CLOSED() {
    return 'closed'
  }
  static get ERROR() {
    return 'error'
  }

  constructor(nsqdHost, nsqdPort, options) {
    super()
    this.nsqdHost = nsqdHost
    this.nsqdPort = nsqdPort
    this.config = new ConnectionConfig(options)
    /** Whether the broker is connected. What is published meanwhile waits. */
    this.ready = false
  }

  /** Connects, and again whenever the connection is lost, until `close`. */
  connect() {
    if (this.#session !== null) return
    const session = new Session()
    this.#session = session
    // An open writer keeps the process alive.
    hold()
    const url = this.config.url([joinHostPort(String(this.nsqdHost), this.nsqdPort)])
    session.opened = open(Client, url, this.config.settings()).then((client) => {
      session.client = client
      if (this.#session === session) {
        client[WATCH]((events) => {
          for (const event of events) if (this.#session === session) this.#happened(event)
        })
      }
      return client
    })
    session.opened.catch((error) => {
      if (this.#session !== session) return
      this.#session = null
      release()
      // Nothing goes on by itself: without a listener it ends the process, as any error of an EventEmitter.
      process.nextTick(() => this.emit(Writer.ERROR, error))
    })
  }

  /** Publishes a message, or a list of them as one batch. Tells the callback, or fulfils the promise, once they are stored. */
  publish(topic, msgs, callback) {
    const error = this.#notOpen() ?? notMessages(msgs)
    if (error !== undefined) return failed(error, callback)
    const bodies = Array.isArray(msgs) ? msgs.map(bytesOf) : bytesOf(msgs)
    const plain = Array.isArray(bodies) && bodies.length === 1 ? bodies[0] : bodies
    return this.#publish((client) => client.publish(topic, plain), callback)
  }

  /** Publishes a message that comes after a time. */
  deferPublish(topic, msg, timeMs, callback) {
    let error = this.#notOpen() ?? notMessages(msg)
    if (error === undefined && !(typeof timeMs === 'number' && timeMs > 0)) {
      error = new Error('The Delay must be a (positiv) number')
    }
    if (error === undefined && Array.isArray(msg) && msg.length > 1) {
      error = new Error('DPUB can only defer one message at a time')
    }
    if (error !== undefined) return failed(error, callback)
    const body = bytesOf(Array.isArray(msg) ? msg[0] : msg)
    return this.#publish((client) => client.publish(topic, body, {delay: timeMs}), callback)
  }

  /** Waits up to `timeout` (5 s) for what was published, and ends the connection. Fulfilled when all is over. */
  close(options) {
    const {timeout = CLOSE_TIMEOUT_MS} = check.options(options, 'the options of close', ['timeout'])
    check.ms(timeout, 'timeout')
    const session = this.#session
    if (session === null) return this.#closing
    this.#session = null
    this.#closing = this.#end(session, timeout)
    return this.#closing
  }

  async #end(session, timeout) {
    try {
      const client = await session.opened
      await client.close({timeout})
    } catch {
      // What was published and is not stored has told its callback.
    }
    this.ready = false
    this.emit(Writer.CLOSED)
    release()
  }

  /** An event of the connection, as `src/event.rs` lays it out. */
  #happened(event) {
    if (event.length === 3) {
      this.ready = true
      this.#warned.clear()
      this.emit(Writer.READY)
    } else if (event.length === 1) {
      this.ready = false
      this.emit(Writer.CLOSED)
    } else {
      const wasReady = this.ready
      this.ready = false
      const error = errorOf({broker: event[0], code: event[2], message: event[3]})
      if (error !== null) tell(this, this.#warned, error)
      if (!wasReady) this.emit(Writer.CLOSED)
    }
  }

  #publish(send, callback) {
    const {client, opened} = this.#session
    const sent = (client === null ? opened.then(send) : send(client)).then(() => undefined)
    if (typeof callback !== 'function') {
      // Programs for nsqjs look at no promise: `error` tells them.
      sent.catch(() => {})
      return sent
    }
    // Outside of the promise, so that a callback that throws is an uncaught exception as it would be in nsqjs.
    sent.then(
      () => process.nextTick(callback, null),
      (error) => process.nextTick(callback, error)
    )
  }

  #notOpen() {
    return this.#session === null ? new Error('No active Writer connection to send messages') : undefined
  }
}

/** Whether nothing is given. Numbers and booleans count as nothing, as in nsqjs. */
function notMessages(msgs) {
  const isBytes = ArrayBuffer.isView(msgs)
  const isGiven = isString(msgs) || isBytes ? msgs.length > 0 : isFull(msgs)
  return isGiven ? undefined : new Error('Attempting to publish an empty message')
}

function isFull(value) {
  if (typeof value !== 'object' || value === null) return false
  return (value instanceof Map || value instanceof Set ? value.size : Object.keys(value).length) > 0
}

/** What goes out: strings and bytes as they are, anything else as JSON. */
function bytesOf(msg) {
  // What is no text goes out as nsqjs sends it: with U+FFFD in its place.
  if (isString(msg)) return check.isWellFormed(String(msg)) ? String(msg) : Buffer.from(String(msg))
  return ArrayBuffer.isView(msg) ? msg : JSON.stringify(msg)
}

/** Tells the callback of an error, or throws it. */
function failed(error, callback) {
  if (!callback) throw error
  callback(error)
}

module.exports = {Writer}
