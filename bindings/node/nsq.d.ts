import { EventEmitter } from 'node:events'

/** Options of connections. Those that nsqjs does not know are ignored, as by nsqjs. */
export interface ConnectionConfigOptions {
  /** A secret that brokers ask for. */
  authSecret?: string | null
  /** The client's name in the brokers' statistics. */
  clientId?: string | null
  deflate?: boolean
  /** 0 to 9. Default 6. */
  deflateLevel?: number
  /** Interval of the brokers' heartbeats in seconds. Default 30; more than 60 is 60. */
  heartbeatInterval?: number
  /** Most messages that are here without an answer, over all brokers. Default 1. */
  maxInFlight?: number
  /** Milliseconds after which a message that is not answered comes again: 1,000 to 900,000. Default `null`: the broker's own. */
  messageTimeout?: number | null
  /** Checked, and without effect: the library has buffers of its own. */
  outputBufferSize?: number | null
  /** Checked, and without effect: the library has buffers of its own. */
  outputBufferTimeout?: number | null
  /** Milliseconds before a message comes again that was requeued without a delay. Default 90,000. */
  requeueDelay?: number
  /** Percent of the messages that come here: 1 to 99. Default: all. */
  sampleRate?: number | null
  snappy?: boolean
  tls?: boolean
  /** Whether the broker's certificate has to be trusted. Default `true`. */
  tlsVerification?: boolean
  /** PEM. */
  key?: Buffer | null
  /** PEM. */
  cert?: Buffer | null
  /** PEM. */
  ca?: Buffer | null
  /** Checked, and without effect: a connection without heartbeats is made again. */
  idleTimeout?: number
}

/** Options of a reader: `nsqdTCPAddresses` or `lookupdHTTPAddresses` is needed. */
export interface ReaderConnectionConfigOptions extends ConnectionConfigOptions {
  /**
   * `host:port`, `http://host:port/lookup` or `https://host:port/lookup`; the last trusts what the system trusts, or `ca`
   * alone if that is given.
   */
  lookupdHTTPAddresses?: string | string[]
  /** Seconds between questions to lookup servers, and the longest between attempts to connect. Default 60. */
  lookupdPollInterval?: number
  /** Checked, and without effect, as in nsqjs. */
  lookupdPollJitter?: number
  /** Checked, and without effect: credit moves on between brokers by itself. */
  lowRdyTimeout?: number
  name?: string | null
  /** `host:port`. */
  nsqdTCPAddresses?: string | string[]
  /** Attempts after which a message goes to the listeners of `discard`, and is finished. Default 0: never. */
  maxAttempts?: number
  /** The longest pause after failures, in seconds. Default 128. */
  maxBackoffDuration?: number
}

/** A message. */
export class Message extends EventEmitter {
  static readonly BACKOFF: 'backoff'
  static readonly RESPOND: 'respond'
  static readonly FINISH: 0
  static readonly REQUEUE: 1
  static readonly TOUCH: 2

  /** A message of the bytes that nsqd sends for one, for tests. */
  constructor(rawMessage: Buffer, requeueDelay?: number, msgTimeout?: number, maxMsgTimeout?: number)

  readonly id: string
  /** Nanoseconds since 1970. */
  readonly timestamp: bigint
  /** 1 at first. */
  readonly attempts: number
  readonly body: Buffer
  /** The address of the broker that it came from. */
  readonly broker: string | undefined
  readonly rawMessage: Buffer
  readonly requeueDelay: number
  readonly msgTimeout: number
  readonly maxMsgTimeout: number
  /** Whether it was finished or requeued. */
  readonly hasResponded: boolean
  /** Whether the broker's time for it was over before that. */
  readonly timedOut: boolean
  /** Milliseconds since 1970. */
  readonly receivedOn: number
  readonly lastTouched: number
  readonly touchCount: number

  /** The body, parsed once. Throws if it is not JSON. */
  json(): any
  /** Milliseconds until it comes again without an answer; with `hard`, however often it is touched. `null`: too late. */
  timeUntilTimeout(hard?: boolean): number | null
  /** It is done. A second answer does nothing. */
  finish(): void
  /** It comes again after `delay` milliseconds. With `backoff`, the default, the reader pauses. */
  requeue(delay?: number | null, backoff?: boolean): void
  /** Its timeout starts anew. */
  touch(): void
}

/** Events of a {@link Reader}, and their arguments. */
export interface ReaderEvents {
  /** A broker is connected, and none was. */
  ready: []
  /** The last connection has ended. */
  not_ready: []
  message: [message: Message]
  /** A message after more than `maxAttempts`. It is finished after the listeners. */
  discard: [message: Message]
  /** A broker that can't be reached or refused something. Without listeners a warning says it. */
  error: [error: Error & { code?: string }]
  /** A lookup server that can't be reached. Without listeners a warning says it. */
  lookupd_error: [error: Error & { code?: string }]
  nsqd_connected: [host: string, port: number]
  nsqd_closed: [host: string, port: number]
}

/**
 * A consumer of a channel.
 *
 * ```js
 * const reader = new nsq.Reader('orders', 'billing', { nsqdTCPAddresses: '127.0.0.1:4150' })
 * reader.on('message', (message) => message.finish())
 * reader.connect()
 * ```
 */
export class Reader extends EventEmitter {
  static readonly ERROR: 'error'
  static readonly MESSAGE: 'message'
  static readonly READY: 'ready'
  static readonly NOT_READY: 'not_ready'
  static readonly DISCARD: 'discard'
  static readonly NSQD_CONNECTED: 'nsqd_connected'
  static readonly NSQD_CLOSED: 'nsqd_closed'

  constructor(topic: string, channel: string, options?: ReaderConnectionConfigOptions)

  readonly topic: string
  readonly channel: string
  /** `host:port` of each broker that is connected. */
  readonly connectionIds: string[]
  readonly isClosed: boolean

  /** Connects to the brokers, again too after `close`. */
  connect(): void
  /**
   * Ends all connections at once: what is not answered goes back. With a `timeout` it takes no more, and waits as many
   * milliseconds for the answers first. Fulfilled when all is over.
   */
  close(options?: { timeout?: number }): Promise<void>
  /** Lets no message come. Those in flight can still be answered. */
  pause(): void
  unpause(): void
  isPaused(): boolean
  /** Does nothing: lookup servers are asked at once, and again and again. */
  queryLookupd(): Promise<void>
  /** Consumes from one more broker. */
  connectToNSQD(host: string, port: number | string): void

  on<K extends keyof ReaderEvents>(event: K, listener: (...args: ReaderEvents[K]) => void): this
  on(event: string | symbol, listener: (...args: any[]) => void): this
  once<K extends keyof ReaderEvents>(event: K, listener: (...args: ReaderEvents[K]) => void): this
  once(event: string | symbol, listener: (...args: any[]) => void): this
}

/** Events of a {@link Writer}, and their arguments. */
export interface WriterEvents {
  /** The broker is connected; again after it was lost. */
  ready: []
  /** The connection has ended: by `close`, or it is made again. */
  closed: []
  /** The broker can't be reached or refused something. Without listeners a warning says it. */
  error: [error: Error & { code?: string }]
}

/** Whatever becomes JSON. */
export type JsonValue = { [key: string]: any } | any[]

/** What is published: strings and bytes as they are, anything else as JSON. */
export type WriterMessage = string | Uint8Array | JsonValue

/** Tells of a publish: `null` once it is stored. */
export type PublishCallback = (error: Error | null) => void

/**
 * A publisher to one broker, which it connects to again whenever it is lost.
 *
 * ```js
 * const writer = new nsq.Writer('127.0.0.1', 4150)
 * writer.connect()
 * await writer.publish('orders', 'one pizza')
 * ```
 */
export class Writer extends EventEmitter {
  static readonly READY: 'ready'
  static readonly CLOSED: 'closed'
  static readonly ERROR: 'error'

  constructor(nsqdHost: string, nsqdPort: number | string, options?: ConnectionConfigOptions)

  readonly nsqdHost: string
  readonly nsqdPort: number | string
  /** Whether the broker is connected. What is published meanwhile waits. */
  readonly ready: boolean

  connect(): void
  /** Publishes a message, or a list of them as one batch: all or nothing. */
  publish(topic: string, msgs: WriterMessage): Promise<void>
  publish(topic: string, msgs: WriterMessage, callback: PublishCallback | undefined): void
  /** Publishes a message that comes after `timeMs` milliseconds. */
  deferPublish(topic: string, msg: WriterMessage, timeMs: number): Promise<void>
  deferPublish(topic: string, msg: WriterMessage, timeMs: number, callback: PublishCallback | undefined): void
  /** Waits up to `timeout` (5 s) for what was published, and ends the connection. Fulfilled when all is over. */
  close(options?: { timeout?: number }): Promise<void>

  on<K extends keyof WriterEvents>(event: K, listener: (...args: WriterEvents[K]) => void): this
  on(event: string | symbol, listener: (...args: any[]) => void): this
  once<K extends keyof WriterEvents>(event: K, listener: (...args: WriterEvents[K]) => void): this
  once(event: string | symbol, listener: (...args: any[]) => void): this
}

/** nsqjs's connection of a reader: throws. Use {@link Reader}. */
export class NSQDConnection {
  constructor(...args: any[])
}

/** nsqjs's connection of a writer: throws. Use {@link Writer}. */
export class WriterNSQDConnection {
  constructor(...args: any[])
}
