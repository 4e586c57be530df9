'use strict'

const {EventEmitter} = require('node:events')

const {Message: Delivery} = require('../message')

const FINISH = 0
const REQUEUE = 1
const TOUCH = 2

/** The longest delay of a requeue that nsqd takes where it is not told otherwise. */
const REQUEUE_MAX_MS = 3_600_000

/** A message as a reader's listeners get it. Made of a delivery, or of the bytes that nsqd sends for one. */
class Message extends EventEmitter {
  #delivery = null
  #raw = null
  #hooks
  #timedOut = false

  static get BACKOFF() {
    return 'backoff'
  }
  static get RESPOND() {
    return 'respond'
  }
  static get FINISH() {
    return FINISH
  }
  static get REQUEUE() {
    return REQUEUE
  }
  static get TOUCH() {
    return TOUCH
  }

  /** `hooks` are called before any listener: `responded(message, type)` and `failed(message)`. */
  constructor(message, requeueDelay, msgTimeout, maxMsgTimeout, hooks) {
    super()
    if (message instanceof Delivery) this.#delivery = message
    else this.#raw = message
    this.#hooks = hooks
    this.requeueDelay = requeueDelay
    this.msgTimeout = msgTimeout
    this.maxMsgTimeout = maxMsgTimeout
    this.hasResponded = false
    this.receivedOn = Date.now()
    this.lastTouched = this.receivedOn
    this.touchCount = 0
  }

  get id() {
    return this.#delivery?.id ?? this.#raw.toString('latin1', 10, 26)
  }

  /** Nanoseconds since 1970. */
  get timestamp() {
    return this.#delivery?.timestampNs ?? this.#raw.readBigInt64BE(0)
  }

  get attempts() {
    return this.#delivery?.attempts ?? this.#raw.readUInt16BE(8)
  }

  get body() {
    return this.#delivery?.body ?? this.#raw.subarray(26)
  }

  /** The address of the broker that it came from. */
  get broker() {
    return this.#delivery?.broker
  }

  /** The bytes that nsqd sends. */
  get rawMessage() {
    if (this.#raw === null) {
      const head = Buffer.alloc(26)
      head.writeBigUInt64BE(this.timestamp, 0)
      head.writeUInt16BE(this.attempts, 8)
      head.write(this.id, 10, 'latin1')
      this.#raw = Buffer.concat([head, this.body])
    }
    return this.#raw
  }

  /** Whether the broker's time for it was over before it was answered. */
  get timedOut() {
    if (this.hasResponded) return this.#timedOut
    return this.timeUntilTimeout() === null || this.timeUntilTimeout(true) === null
  }

  json() {
    if (this.parsed == null) {
      try {
        this.parsed = JSON.parse(this.body)
      } catch (cause) {
        throw new Error('Invalid JSON in Message', {cause})
      }
    }
    return this.parsed
  }

  timeUntilTimeout(hard = false) {
    if (this.hasResponded) return null
    const [since, timeout] = hard ? [this.receivedOn, this.maxMsgTimeout] : [this.lastTouched, this.msgTimeout]
    const left = since + timeout - Date.now()
    return left > 0 ? left : null
  }

  finish() {
    if (this.hasResponded) return
    this.#end()
    this.#delivery?.finish()
    this.respond(FINISH, () => `FIN ${this.id}\n`)
  }

  requeue(delay = this.requeueDelay, backoff = true) {
    if (this.hasResponded) return
    this.#end()
    // First, so that a pause begins before the message can come again.
    if (backoff) this.#hooks?.failed(this)
    // nsqd cuts it, where `mq` refuses.
    this.#delivery?.requeue({delay: Math.min(Math.max(delay ?? this.requeueDelay, 0), REQUEUE_MAX_MS)})
    this.respond(REQUEUE, () => `REQ ${this.id} ${delay ?? this.requeueDelay}\n`)
    if (backoff) this.emit(Message.BACKOFF)
  }

  touch() {
    this.touchCount += 1
    this.lastTouched = Date.now()
    if (this.hasResponded) return
    this.#delivery?.touch()
    this.respond(TOUCH, () => `TOUCH ${this.id}\n`)
  }

  /** Tells of an answer, in the next turn. */
  respond(type, command) {
    this.#hooks?.responded(this, type)
    process.nextTick(() => {
      if (this.listenerCount(Message.RESPOND) === 0) return
      this.emit(Message.RESPOND, type, typeof command === 'function' ? Buffer.from(command()) : command)
    })
  }

  #end() {
    this.#timedOut = this.timedOut
    this.hasResponded = true
  }
}

module.exports = {Message}
