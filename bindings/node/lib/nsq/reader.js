'use strict'
// A reader: messages of a channel as events.

const {EventEmitter} = require('node:events')

const check = require('../check')
const {open, Client} = require('../client')
const {WATCH} = require('../subscription')
const {ReaderConfig, joinHostPort, splitHostPort} = require('./config')
const {errorOf, tell} = require('./errors')
const {Flow} = require('./flow')
const {Message} = require('./message')

/** Where a broker does not say how long a message may take. */
const MESSAGE_TIMEOUT_MS = 60_000
const MESSAGE_TIMEOUT_MAX_MS = 900_000

/** One time that a reader is open: from connect to close. */
class Session {
  client = null
  subscription = null
  /** Brokers to add once it is there. */
  others
  /** Timeouts of messages by the address of the connected broker. */
  timeouts = new Map()
  /** Messages without an answer. */
  inFlight = new Set()
  /** Called when the last of them is answered. */
  onIdle = null

  constructor(others) {
    this.others = others
  }
}

/** A consumer of a channel. */
class Reader extends EventEmitter {
  #session = null
  #flow
  #warned = new Set()
  /** Whether `connect` was called while it was paused. */
  #isWaiting = false
  #closing = Promise.resolve()

  static get ERROR() {
    return 'error'
  }
  static get MESSAGE() {
    return 'message'
  }
  static get READY() {
    return 'ready'
  }
  static get NOT_READY() {
    return 'not_ready'
  }
  static get DISCARD() {
    return 'discard'
  }
  static get NSQD_CONNECTED() {
    return 'nsqd_connected'
  }
  static get NSQD_CLOSED() {
    return 'nsqd_closed'
  }

  constructor(topic, channel, options) {
    super()
    this.topic = topic
    this.channel = channel
    this.config = new ReaderConfig(options)
    /** `host:port` of each broker that is connected. */
    this.connectionIds = []
    this.isClosed = false
    const {maxInFlight, maxBackoffDuration} = this.config
    this.#flow = new Flow(Math.floor(maxInFlight), maxBackoffDuration, (credit) => {
      this.#session?.subscription?.setMaxInFlight(credit)
    })
  }

  /** Connects to the brokers, again too after `close`. While it is paused it waits for `unpause`. */
  connect() {
    this.isClosed = false
    if (this.#session !== null) return
    this.#isWaiting = this.isPaused()
    if (!this.#isWaiting) this.#open()
  }

  /**
   * Ends all connections: what is not answered goes back. With a `timeout` it takes no more first, and waits as long
   * for the answers. Fulfilled when all is over.
   */
  close(options) {
    const {timeout} = check.options(options, 'the options of close', ['timeout'])
    if (timeout !== undefined) check.ms(timeout, 'timeout')
    this.isClosed = true
    this.#isWaiting = false
    const session = this.#session
    if (session === null) return this.#closing
    if (timeout === undefined || session.inFlight.size === 0) {
      this.#end(session)
    } else {
      session.subscription?.setMaxInFlight(0)
      this.#closing = new Promise((resolve) => {
        const end = () => {
          clearTimeout(timer)
          session.onIdle = null
          this.#end(session)
          resolve(this.#closing)
        }
        const timer = setTimeout(end, timeout)
        // The last answer goes out before the end.
        session.onIdle = () => process.nextTick(end)
      })
    }
    return this.#closing
  }

  /** Lets no message come. Those in flight can still be answered. */
  pause() {
    this.#flow.pause()
  }

  unpause() {
    this.#flow.unpause()
    if (this.#isWaiting) this.connect()
  }

  isPaused() {
    return this.#flow.isPaused
  }

  /** Nothing: lookup servers are asked at once, and again and again. */
  async queryLookupd() {}

  /** Consumes from one more broker. */
  connectToNSQD(host, port) {
    if (this.isClosed) return
    const address = joinHostPort(String(host), port)
    if (this.#session === null) {
      this.#isWaiting = this.isPaused()
      if (!this.#isWaiting) this.#open()
    }
    const {subscription, others} = this.#session ?? {others: this.config.nsqdTCPAddresses}
    if (subscription) subscription.addBroker(address).catch((error) => tell(this, this.#warned, error))
    else others.push(address)
  }

  #open() {
    const {url, others} = this.config.places()
    const session = new Session([...others])
    this.#session = session
    this.#flow.reset()
    this.#consume(session, url).catch((error) => {
      if (this.#session !== session) return
      this.#end(session)
      // Nothing goes on by itself: without a listener it ends the process, as any error of an EventEmitter.
      process.nextTick(() => this.emit(Reader.ERROR, error))
    })
  }

  async #consume(session, url) {
    session.client = await open(Client, url, this.config.settings())
    if (this.#session !== session) {
      await session.client.close()
      return
    }
    const subscription = session.client.subscribe(this.topic, this.channel, this.config.subscription())
    await subscription.opened()
    if (this.#session !== session) return
    session.subscription = subscription
    const watch = subscription[WATCH]((events) => {
      for (const event of events) if (this.#session === session) this.#happened(session, event)
    })
    if (this.#flow.credit !== Math.floor(this.config.maxInFlight)) subscription.setMaxInFlight(this.#flow.credit)
    for (const address of session.others) await subscription.addBroker(address)
    for await (const batch of subscription.batches()) {
      // What happened before the messages came is told before them.
      watch.drain()
      for (const delivery of batch) this.#take(session, delivery)
    }
  }

  /** An event of the connections, as `src/event.rs` lays it out. */
  #happened(session, event) {
    const [broker] = event
    if (event.length === 3) this.#connected(session, broker, event[1], event[2])
    else if (event.length === 1) this.#disconnected(session, broker)
    else this.#failed(session, {broker, messageId: event[1], code: event[2], message: event[3]})
  }

  #connected(session, broker, msgTimeout, maxMsgTimeout) {
    if (session.timeouts.has(broker)) this.#disconnected(session, broker)
    session.timeouts.set(broker, [msgTimeout || MESSAGE_TIMEOUT_MS, maxMsgTimeout || MESSAGE_TIMEOUT_MAX_MS])
    this.connectionIds.push(broker)
    this.#warned.clear()
    this.emit(Reader.NSQD_CONNECTED, ...place(broker))
    if (this.connectionIds.length === 1 && this.#session === session) this.emit(Reader.READY)
  }

  #disconnected(session, broker) {
    if (!session.timeouts.delete(broker)) return
    this.connectionIds.splice(this.connectionIds.indexOf(broker), 1)
    // They come again, and their answers go nowhere.
    for (const message of session.inFlight) if (message.broker === broker) this.#left(session, message)
    if (this.connectionIds.length === 0) this.#flow.reset()
    this.#tellClosed(broker)
  }

  #tellClosed(broker) {
    const isLast = this.connectionIds.length === 0
    this.emit(Reader.NSQD_CLOSED, ...place(broker))
    if (isLast) this.emit(Reader.NOT_READY)
  }

  #failed(session, failure) {
    const error = errorOf(failure)
    if (error === null) return
    const isLookup = !failure.messageId && this.config.lookupServers().includes(failure.broker)
    if (isLookup) {
      tell(this, this.#warned, error, 'lookupd_error')
      return
    }
    const isConnected = session.timeouts.has(failure.broker) || failure.messageId != null
    // A broker that refuses has been reached.
    const isRefused = !isConnected && error.code.startsWith('E_')
    if (isRefused) this.emit(Reader.NSQD_CONNECTED, ...place(failure.broker))
    tell(this, this.#warned, error)
    if (!isConnected && this.#session === session) this.#tellClosed(failure.broker)
  }

  #take(session, delivery) {
    const [msgTimeout, maxMsgTimeout] = session.timeouts.get(delivery.broker) ?? [MESSAGE_TIMEOUT_MS, MESSAGE_TIMEOUT_MAX_MS]
    const hooks = {
      responded: (message, type) => {
        if (type === Message.TOUCH) return
        this.#left(session, message)
        if (type === Message.FINISH) this.#flow.success()
      },
      failed: () => this.#flow.failure()
    }
    const message = new Message(delivery, this.config.requeueDelay, msgTimeout, maxMsgTimeout, hooks)
    session.inFlight.add(message)
    // Each in a call of its own: a listener that throws keeps the others from nothing.
    process.nextTick(() => this.handleMessage(message))
  }

  #left(session, message) {
    if (session.inFlight.delete(message) && session.inFlight.size === 0) session.onIdle?.()
  }

  /** Hands a message to its listeners; one that was tried too often to those of `discard`, and finishes it. */
  handleMessage(message) {
    const isOver = this.config.maxAttempts > 0 && this.config.maxAttempts < message.attempts
    this.emit(isOver && this.listenerCount(Reader.DISCARD) > 0 ? Reader.DISCARD : Reader.MESSAGE, message)
    if (isOver) message.finish()
  }

  #end(session) {
    this.#session = null
    this.#flow.end()
    session.inFlight.clear()
    this.#closing = session.client === null ? Promise.resolve() : session.client.close().catch(() => {})
    const brokers = this.connectionIds
    this.connectionIds = []
    for (const broker of brokers) this.emit(Reader.NSQD_CLOSED, ...place(broker))
    if (brokers.length > 0) this.emit(Reader.NOT_READY)
  }
}

/** Host and port as events have them. */
function place(broker) {
  const [host, port] = splitHostPort(broker)
  return [host, Number(port)]
}

module.exports = {Reader}
