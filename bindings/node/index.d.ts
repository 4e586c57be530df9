/**
 * A message queue in your program, on your brokers, or on a fleet of them: one API for all, and what changes is
 * one string.
 *
 * ```js
 * import { connect } from 'libmq'
 *
 * const client = await connect('./data') // or 'mq://broker:4150'
 * await client.publish('orders', 'one pizza')
 * for await (const message of client.subscribe('orders', 'billing')) {
 *   console.log(message.text())
 *   message.finish()
 * }
 * ```
 *
 * All durations are in milliseconds.
 */

/**
 * A body, header or id: bytes, or a text that is sent as UTF-8. A text with half of a surrogate pair is refused: UTF-8
 * has no bytes for it.
 */
export type Bytes = string | ArrayBufferView | ArrayBuffer

/** Headers to publish: an object whose values can be lists, or pairs in their order. */
export type Headers = { readonly [name: string]: Bytes | readonly Bytes[] | undefined } | Iterable<readonly [string, Bytes]>

/** A message to publish, with more than its body. */
export interface NewMessage {
  /** At least one byte. */
  body: Bytes
  /** Headers, after those of {@link PublishOptions}. */
  headers?: Headers
  /** Another message with this id is not stored again while its topic remembers the id. */
  id?: Bytes
  /** Delivers it no earlier than so long after the publish. */
  delay?: number
}

/** What is wanted of all messages of a publish. */
export interface PublishOptions {
  headers?: Headers
  /** For one message only: the messages of a list have their own. */
  id?: Bytes
  delay?: number
  /**
   * The longest wait for the outcome, instead of `publishTimeout`: at its end the error is `TIMEOUT` if the message was not
   * sent, and never is then; `UNKNOWN_OUTCOME` if it was.
   */
  timeout?: number
}

/** A broker's answer for a message that is stored. */
export interface Receipt {
  /**
   * The message's place in its topic, that of the first with its id if it is a duplicate. `undefined` from nsqd, which
   * has none.
   */
  offset: bigint | undefined
  /** Whether it was not stored again, because one with its id was before. */
  duplicate: boolean
  /** The broker: its address or folder. */
  broker: string
}

/** Settings of a client. Parameters of the URL win: `mq://broker:4150?publish_timeout=5s`. */
export interface ConnectOptions {
  /** Bytes that may wait without an answer, in all. Default 64 MiB. */
  maxBufferedBytes?: number
  /** The longest wait for the outcome of a publish. Default 30 s. */
  publishTimeout?: number
  /** The longest pause between attempts to connect. Default 15 s. */
  maxReconnectDelay?: number
  /** Time between two questions to the lookup servers. Default 60 s. */
  lookupPollInterval?: number
  /** Interval of the brokers' heartbeats: a connection on which nothing comes for twice as long is made again. Default 30 s. */
  heartbeatInterval?: number
  /** The client's name in the brokers' statistics. */
  clientId?: string
  /** The program's name and version in the brokers' statistics. */
  userAgent?: string
  /** Compression of connections, where the broker has it; deflate's level is 6 if none is given. Default `none`. */
  compression?: 'none' | 'snappy' | 'deflate' | `deflate-${1 | 2 | 3 | 4 | 5 | 6 | 7 | 8 | 9}`
  /** A secret that brokers ask for. */
  authSecret?: string
  /** A PEM file with the certificates that `mqs://` and `https://` trust. Default: the system's. */
  tlsRootCaFile?: string
  /** PEM files with the certificate that the client shows, and its key: both or none. */
  tlsCertFile?: string
  tlsKeyFile?: string
  /** The name that the certificates of `mqs://` brokers must have. Default: the host connected to. */
  tlsServerName?: string
  /**
   * Whether brokers that have it are spoken to in libmq's extension of NSQ's protocol: without it there are no headers, ids
   * and offsets, as with nsqd. Default `true`.
   */
  extension?: boolean
  /**
   * What is sent again when a connection ended before the answer came. `by_id`: messages with an id, which their broker
   * stores once. `at_least_once`: all, which may be stored twice. Default `by_id`.
   */
  retry?: 'by_id' | 'at_least_once'
  /** Brokers, of several, that get what is published. `one`: one at a time, another when it is lost. `all`: all. Default `one`. */
  publishTo?: 'one' | 'all'
  /** Takes any certificate: whoever is on the way can read and change everything. Default `false`. */
  tlsInsecure?: boolean
  /** Level of topics that a broker in this process creates. Default `flush`, and `memory` for `mq:memory`. */
  durability?: 'memory' | 'flush' | 'sync'
  /**
   * Bytes of memory that a broker in this process fills with messages before it writes those at level `memory` to its
   * folder too; what `mq:memory` would write there is in memory beside it, at most 512 MiB. Default 256 MiB.
   */
  memoryLimit?: number
  /**
   * Whether messages get the context of OpenTelemetry as headers, where the program has registered a propagator. Default:
   * with a broker in this process, since nsqd has no headers.
   */
  traceHeaders?: boolean
}

/**
 * The first message of a new channel. `waiting`: the oldest that waits in the topic, which only a topic without channels
 * has, else the next one. `earliest`: the oldest that is kept. `latest`: the next one that is published. An offset; a
 * time, as a `Date` or in nanoseconds since 1970. nsqd knows only the default.
 */
export type Start = 'waiting' | 'earliest' | 'latest' | { offset: bigint } | { time: Date | bigint }

/** Settings of a subscription. */
export interface SubscribeOptions {
  /** Most messages that are here without an answer. Default 200; 1 to 1,000,000. */
  maxInFlight?: number
  /**
   * The longest time that a message may be here without an answer before it is delivered again: 1 s to 15 min. `null` is
   * the brokers' own. Default 60 s.
   */
  msgTimeout?: number | null
  /** Percent of the messages that come here; the others count as delivered. Default 0: all; at most 99. */
  sampleRate?: number
  /** The first message of a channel that this creates. One that exists stays where it is. Default `waiting`. */
  start?: Start
  /**
   * Most bytes of body and headers that a message may have to come here: a larger one is put aside for `msgTimeout`, and
   * then goes to another subscriber of the channel that takes it. Default 0: any. nsqd knows only the default.
   */
  maxMessageBytes?: number
  /**
   * Most bytes of bodies that are in flight here, over all brokers: each has an equal share, and sends a single message that
   * is larger when nothing else of it is in flight. Default 0: any. nsqd knows only the default.
   */
  maxInFlightBytes?: number
  /** Ends the subscription; a loop over it throws an {@link AbortError}. */
  signal?: AbortSignal
}

/**
 * Connects to brokers, or opens one in this process. Brokers over the network are only connected to when there is
 * something to publish, or a subscription.
 *
 * | URL | broker |
 * |---|---|
 * | `/path`, `./path`, `../path`, `mq:PATH` | in this process, on that folder |
 * | `mq:memory` | in this process, without a folder, gone with the client |
 * | `mq://host:4150[,host:4150...]` | these: `mq` or nsqd |
 * | `mqs://host:4150[,...]` | the same over TLS |
 * | `mq+lookup://host:4161[,...]` | those that lookup servers name; `https://host:443` is one that is asked over TLS |
 * | `mqs+lookup://host:4161[,...]` | the same, brokers over TLS |
 *
 * ```js
 * const client = await connect('mq://broker-1:4150,broker-2:4150', { clientId: 'billing' })
 * ```
 */
export function connect(url: string, options?: ConnectOptions): Promise<Client>

/** A client of brokers, or of one in this process: made by {@link connect}. It does not keep the process alive. */
export class Client implements AsyncDisposable {
  protected constructor()

  /**
   * Publishes a message. The promise is fulfilled once it is stored. Calls of one client keep their order, and
   * don't have to wait for each other; to wait for the promises now and then keeps memory bounded.
   *
   * ```js
   * const receipt = await client.publish('orders', 'one pizza', { headers: { colour: 'red' }, id: 'order-1' })
   * ```
   *
   * @throws {MqError} `UNKNOWN_OUTCOME` if it was sent and not answered. After any other error it is not stored.
   */
  publish(topic: string, message: Bytes | NewMessage, options?: PublishOptions): Promise<Receipt>
  /**
   * Publishes messages as one batch.
   *
   * ```js
   * await client.publish('orders', ['two pizzas', { body: 'three pizzas', delay: 60_000 }])
   * ```
   */
  publish(topic: string, messages: readonly (Bytes | NewMessage)[], options?: PublishOptions): Promise<Receipt[]>

  /**
   * Subscribes to a channel, and creates it and its topic where they are missing. With a broker in this process, what this
   * client publishes from now on is in the channel; over the network a new channel has what is published once its broker
   * is connected, but for the first of a topic, which has what waits. Errors are thrown by the loop over it.
   *
   * ```js
   * for await (const message of client.subscribe('orders', 'billing', { maxInFlight: 10 })) {
   *   await bill(message.json())
   *   message.finish()
   * }
   * ```
   */
  subscribe(topic: string, channel: string, options?: SubscribeOptions): Subscription

  // Topics and channels of a broker in this process; over the network: `UNSUPPORTED`.

  /**
   * Creates a topic, if it is missing.
   *
   * ```js
   * await client.createTopic('orders')
   * ```
   */
  createTopic(topic: string): Promise<void>
  /** Deletes a topic, its channels and their messages. */
  deleteTopic(topic: string): Promise<void>
  /** Drops the messages of a topic that no channel has. */
  emptyTopic(topic: string): Promise<void>
  /** Keeps what is published to a topic from its channels. */
  pauseTopic(topic: string): Promise<void>
  /** Ends {@link pauseTopic}: what waited goes to the channels. */
  unpauseTopic(topic: string): Promise<void>
  /**
   * Creates a channel and its topic, where they are missing.
   *
   * ```js
   * await client.createChannel('orders', 'billing')
   * ```
   */
  createChannel(topic: string, channel: string): Promise<void>
  /** Deletes a channel and its messages. Loops over its subscriptions throw `CLOSED`. */
  deleteChannel(topic: string, channel: string): Promise<void>
  /** Drops the messages of a channel. */
  emptyChannel(topic: string, channel: string): Promise<void>
  /** Stops delivery to the subscriptions of a channel. */
  pauseChannel(topic: string, channel: string): Promise<void>
  /** Ends {@link pauseChannel}: delivery goes on. */
  unpauseChannel(topic: string, channel: string): Promise<void>
  /**
   * The settings of a topic. Of a broker in this process.
   *
   * ```js
   * const { maxMessages } = await client.topicSettings('orders')
   * ```
   */
  topicSettings(topic: string): Promise<TopicSettings>
  /**
   * Changes the settings of a topic, all at once, for every publish from now on and over restarts. What is left out has
   * its default, but for the level, which stays as it is.
   *
   * ```js
   * await client.setTopicSettings('orders', { ...(await client.topicSettings('orders')), maxMessages: 1_000_000 })
   * ```
   */
  setTopicSettings(topic: string, settings: Partial<TopicSettings>): Promise<void>
  /**
   * The settings of a channel.
   *
   * ```js
   * const { maxAttempts } = await client.channelSettings('orders', 'billing')
   * ```
   */
  channelSettings(topic: string, channel: string): Promise<ChannelSettings>
  /**
   * Changes the settings of a channel, all at once, for every message that comes back from now on and over restarts. What
   * is left out has its default.
   *
   * ```js
   * await client.setChannelSettings('orders', 'billing', { maxAttempts: 5, deadLetterTopic: 'orders.dead' })
   * ```
   */
  setChannelSettings(topic: string, channel: string, settings: Partial<ChannelSettings>): Promise<void>
  /**
   * The numbers of all topics and channels.
   *
   * ```js
   * for (const { name, channels } of (await client.stats()).topics) console.log(name, channels.length)
   * ```
   */
  stats(): Promise<Stats>

  /**
   * Serves a broker in this process to others, until the client is closed. The settings are the flags of `mq serve`;
   * without them the addresses are its defaults, all of this machine alone. Returns once it listens.
   *
   * ```js
   * const { tcp } = await client.serve({ tcpAddress: '127.0.0.1:0', httpAddress: '', grpcAddress: '' })
   * ```
   */
  serve(settings?: { readonly [flag: string]: string | number | boolean }): Promise<Addresses>

  /**
   * Takes no more, ends subscriptions, waits until every publish has its outcome, and stops a broker in this process.
   *
   * ```js
   * await client.close({ timeout: 5000 })
   * ```
   *
   * @throws {MqError} `TIMEOUT` if publishes had none within `timeout` (30 s): they are given up.
   */
  close(options?: { timeout?: number }): Promise<void>
  /** Whether {@link close} was called. */
  readonly isClosed: boolean
  /** {@link close}, for `await using`. */
  [Symbol.asyncDispose](): Promise<void>
}

/** Addresses that a broker listens on. */
export interface Addresses {
  tcp: string
  http: string | undefined
  https: string | undefined
  grpc: string | undefined
}

/** Settings of a topic: what a receipt stands for, what may wait, and how long ids are remembered. */
export interface TopicSettings {
  /**
   * What survives once a message is stored: `'memory'` a clean stop, `'flush'` a crash of the process, `'sync'` one of the
   * machine. Default: that of `connect`.
   */
  durability: 'memory' | 'flush' | 'sync'
  /** Messages that may wait in each channel. Default 0: any number. */
  maxMessages: number
  /** Bytes of messages that may wait in each channel. Default 0: any number. */
  maxBytes: number
  /** Greatest age of a message that waits: an older one is dropped. Default 0: any age. */
  maxAge: number
  /** At the limit of messages or bytes: `'refuse'` publishes, which is the default, or `'drop-oldest'` messages. */
  overflow: 'refuse' | 'drop-oldest'
  /** Time for which the id of a message is remembered, 7 days at most; 0 is not at all, `undefined` as the broker has it. */
  dedupWindow: number | undefined
  /** The most ids that are remembered; `undefined` is as the broker has it. */
  dedupMaxIds: number | undefined
}

/** Settings of a channel: dead letters, and messages whose consumer was lost. */
export interface ChannelSettings {
  /**
   * Deliveries of one message at most: one that comes back unfinished from so many is a dead letter. Default 0: no limit,
   * at most 65,535.
   */
  maxAttempts: number
  /** The topic that gets dead letters, which is created if it is new: present exactly where there is a limit. */
  deadLetterTopic: string | undefined
  /**
   * Time for which a message waits that was delivered more than once when its consumer was lost: so much for each
   * delivery. Default 1000; 0 is no wait.
   */
  redeliveryDelay: number
}

/** Numbers of a broker in this process. */
export interface Stats {
  topics: TopicStats[]
}

/** Numbers of a topic. */
export interface TopicStats {
  name: string
  /** Messages that wait for a first channel, or for the topic to be unpaused. */
  depth: number
  messageCount: number
  messageBytes: number
  /** Messages that were not stored because one with their id was. */
  duplicates: number
  paused: boolean
  channels: ChannelStats[]
}

/** Numbers of a channel. */
export interface ChannelStats {
  name: string
  /** Messages that wait for a subscriber. */
  depth: number
  inFlight: number
  /** Messages that wait for their time. */
  deferred: number
  messageCount: number
  finished: number
  requeued: number
  timedOut: number
  /** Messages moved to the dead letter topic. */
  deadLettered: number
  subscribers: number
  paused: boolean
}

/**
 * A subscription: messages, as they come. It keeps the process alive until it is closed. A loop that is left early
 * closes it, and what was not answered goes back at once.
 */
export class Subscription implements AsyncIterableIterator<Message>, AsyncDisposable {
  private constructor()
  /** The topic's name. */
  readonly topic: string
  /** The channel's name. */
  readonly channel: string
  /** Whether it has ended: closed from here, with its channel, or by its signal. */
  readonly isClosed: boolean

  /**
   * Waits until a channel of a broker in this process is there, for who publishes with another client. Over the network it
   * waits for no broker.
   *
   * ```js
   * await subscription.opened()
   * ```
   */
  opened(): Promise<void>
  /**
   * The next message. Several may be waited for at the same time.
   *
   * ```js
   * const { done, value: message } = await subscription.next()
   * ```
   */
  next(): Promise<IteratorResult<Message, undefined>>
  /** {@link close}, as a loop that is left early calls it. */
  return(): Promise<IteratorResult<Message, undefined>>
  /** The subscription itself, for `for await`. */
  [Symbol.asyncIterator](): this

  /**
   * Messages in batches of those that are there, at most `max`.
   *
   * ```js
   * for await (const batch of subscription.batches({ max: 100 })) {
   *   await insert(Array.from(batch, (message) => message.json()))
   *   batch.finish()
   * }
   * ```
   */
  batches(options?: { max?: number }): AsyncIterableIterator<Batch>

  /**
   * Changes how many messages may be here without an answer. 0 pauses: nothing more comes; what is here still does.
   *
   * ```js
   * subscription.setMaxInFlight(0)
   * ```
   */
  setMaxInFlight(maxInFlight: number): void

  /**
   * Consumes from one more broker over the network, at `host:port`, until the subscription ends: beside those of the
   * URL, whatever lookup servers say.
   *
   * ```js
   * await subscription.addBroker('broker-3:4150')
   * ```
   */
  addBroker(address: string): Promise<void>

  /**
   * Waits until the answers given so far are in the log of their broker, where a crash does not undo them as its level
   * promises: at most `timeout` (10 s). Returns whether that was enough. For work that must not be done twice.
   *
   * ```js
   * message.finish()
   * if (!(await subscription.flush({ timeout: 5000 }))) console.warn('it may come again')
   * ```
   *
   * @throws {MqError} `UNSUPPORTED` by nsqd, which confirms nothing. `UNREACHABLE` if a connection ended meanwhile: what was
   * finished over it may be delivered again.
   */
  flush(options?: { timeout?: number }): Promise<boolean>

  /**
   * Answers that failed, and servers that can't be reached, since they were asked for last: the newest 1,000.
   *
   * ```js
   * for (const { broker, messageId, error } of subscription.failures()) console.warn(broker, messageId, error.message)
   * ```
   */
  failures(): SubscriptionFailure[]

  /**
   * Ends the subscription: answers given before go out, and what has none goes back. A loop over it ends. Waits for
   * that, at most `timeout` (10 s), and returns whether it was enough.
   *
   * ```js
   * await subscription.close()
   * ```
   */
  close(options?: { timeout?: number }): Promise<boolean>
  /** Keeps the process alive again, after {@link unref}. */
  ref(): this
  /** Lets the process end although the subscription is open. */
  unref(): this
  /** {@link close}, for `await using`. */
  [Symbol.asyncDispose](): Promise<void>
}

/** An answer, a broker or a lookup server that failed: one of {@link Subscription.failures}. */
export interface SubscriptionFailure {
  /** The broker or lookup server. */
  broker: string
  /** The message whose answer failed: it is delivered again. `undefined` if it is about the server as a whole. */
  messageId: string | undefined
  /** The reason. */
  error: MqError
}

/** Settings of a requeue. */
export interface RequeueOptions {
  /** Default 0: at once. One beyond the bound of the broker, or a year, is a failure: the message stays in flight. */
  delay?: number
}

/**
 * A message of a subscription, in flight until it is finished or requeued, or its timeout is over. Answers are plain
 * calls that only queue; what becomes of them is in {@link Subscription.failures}. One after the first does nothing.
 *
 * ```js
 * const { customer } = message.json()
 * if (customer === undefined) message.requeue({ delay: 60_000 })
 * else message.finish()
 * ```
 */
export class Message {
  private constructor()
  /** The body, over memory that it shares with other messages: to send it to another thread, copy it. */
  readonly body: Buffer
  /** The body as UTF-8. */
  text(): string
  /**
   * The body as JSON.
   *
   * @throws {MqError} `INVALID_JSON`
   */
  json(): any
  /** The id that its broker gave it. */
  readonly id: string
  /** 1 on the first delivery to this channel. */
  readonly attempts: number
  /** Time of its publish. */
  readonly timestamp: Date
  /** The same in nanoseconds since 1970. */
  readonly timestampNs: bigint
  /** Its place in its topic; `undefined` from nsqd, which has none. */
  readonly offset: bigint | undefined
  /** Its broker: the address or folder. */
  readonly broker: string
  /** Its headers as text, the last of a repeated name; nsqd has none. */
  readonly headers: { readonly [name: string]: string | undefined }
  /** Its headers in the order in which they were published. */
  readonly rawHeaders: [name: string, value: Buffer][]
  /** Whether it was finished, requeued or released from here. */
  readonly isAnswered: boolean
  /** Finishes the message: the channel is done with it. */
  finish(): void
  /** Returns the message to the channel, to be delivered again after a delay. */
  requeue(options?: RequeueOptions): void
  /**
   * Returns the message to the channel as one that nobody looked at: it is delivered again at once, before others, and
   * this delivery does not count as an attempt. For nsqd it is a requeue without a delay.
   */
  release(): void
  /** Starts the message's timeout anew. */
  touch(): void
}

/**
 * Messages that came together. An answer to all leaves out those that have one.
 *
 * ```js
 * for (const message of batch) if (message.body.length === 0) message.requeue()
 * batch.finish()
 * ```
 */
export class Batch implements Iterable<Message> {
  private constructor()
  /** The number of messages. */
  readonly length: number
  /** A message by its place, from the end if it is negative. */
  at(index: number): Message | undefined
  /** The messages in their order. */
  [Symbol.iterator](): IterableIterator<Message>
  /** Finishes all that have no answer. */
  finish(): void
  /** Returns all that have no answer to the channel. */
  requeue(options?: RequeueOptions): void
  /** Returns all that have no answer as ones that nobody looked at: see {@link Message.release}. */
  release(): void
  /** Starts the timeouts of all that have no answer anew. */
  touch(): void
}

/** What a handler of {@link run} gets besides its message. */
export interface HandlerContext {
  /** Aborted when the worker ends and the handler has no more time: the message is given back then. */
  signal: AbortSignal
}

/** Settings of {@link run}: a `url`, or a `client` that stays open. */
export type RunOptions = ({ url: string; connect?: ConnectOptions; client?: undefined } | { client: Client; url?: undefined }) & {
  topic: string
  channel: string
  /** Handlers that run at the same time. Default 10. */
  concurrency?: number
  /** The timeout of a message; the worker renews it while the handler runs. Default 60 s. */
  msgTimeout?: number
  /** Attempts before a message is given up. Default: never. */
  maxAttempts?: number
  /** Delay of a message whose handler failed. Default: 1 s, 2 s, 4 s and so on, at most 15 min. */
  requeueDelay?: number | ((attempts: number) => number)
  /** The pause of the whole worker after a failure, twice as long after each; then one message at a time. Default 100 ms to 10 s. */
  backoff?: { min?: number; max?: number }
  /**
   * Takes a message that is given up, before it is finished: to publish it elsewhere, say. If it fails, the message is
   * delivered again, 1 s, 2 s, 4 s and so on later with its attempts, at most 15 min.
   */
  giveUp?: (message: Message, error: unknown) => unknown
  /** Is called for each failure of a handler. Default: prints it. */
  onError?: (error: unknown, message: Message) => void
  /** Time that handlers have after a signal. Default 10 s. */
  drainTimeout?: number
  /** Signals of the process that end the worker; a second one ends it at once. Default SIGTERM and SIGINT. */
  signals?: NodeJS.Signals[]
  /** Ends the worker too. */
  signal?: AbortSignal
}

/** The work of a worker that has ended. */
export interface RunSummary {
  finished: number
  requeued: number
  givenUp: number
}

/**
 * Runs a worker: each message through a handler, which finishes it, or requeues it if the handler fails. A signal ends
 * it: handlers at work have `drainTimeout` to complete, and what is left goes back.
 *
 * ```js
 * await run(async (message) => bill(message.json()), {
 *   url: 'mq://broker:4150',
 *   topic: 'orders',
 *   channel: 'billing'
 * })
 * ```
 */
export function run(handler: (message: Message, context: HandlerContext) => unknown, options: RunOptions): Promise<RunSummary>

/** What {@link MqError.code} says. */
export type ErrorCode =
  /** A topic or channel name that is not valid. */
  | 'INVALID_NAME'
  /** A URL, setting, option or message that is not valid. Nothing was done. */
  | 'INVALID_ARGUMENT'
  /** A body that is no JSON. */
  | 'INVALID_JSON'
  /** The data folder is open elsewhere, or a second time in this process. */
  | 'LOCKED'
  /** The client's buffer has no room for the message. */
  | 'BUFFER_FULL'
  /** The time of a wait is over. A publish that fails so was never sent. */
  | 'TIMEOUT'
  /** The client or subscription is closed, or the channel deleted. */
  | 'CLOSED'
  /** The client is of a process that forked this one. */
  | 'FORKED'
  /** The broker can't do what was asked for. */
  | 'UNSUPPORTED'
  /** The broker refused: nothing was stored. */
  | 'REFUSED'
  /** A publish has no answer: the message may be stored or not. */
  | 'UNKNOWN_OUTCOME'
  /** A broker or lookup server can't be reached, or ended the connection. */
  | 'UNREACHABLE'
  /** An AbortSignal ended the wait. */
  | 'ABORT_ERR'
  /** Any other failure. */
  | 'FAILED'

/**
 * The reason why a call failed.
 *
 * ```js
 * try {
 *   await client.publish('orders', 'one pizza')
 * } catch (error) {
 *   if (error instanceof MqError && error.code === 'UNKNOWN_OUTCOME') console.warn('it may be stored or not')
 *   else throw error
 * }
 * ```
 */
export class MqError extends Error {
  protected constructor()
  /** What failed, in a word that stays. */
  readonly code: ErrorCode
  /**
   * Whether the same call can succeed later without a change by the caller. After `UNKNOWN_OUTCOME` it may store a
   * message twice, and that is therefore not among them.
   */
  readonly retry: boolean
  /** What it came from: the reason of a signal, or the error of a parser. */
  readonly cause?: unknown
}

/**
 * The end of a loop by its AbortSignal, whose reason is the `cause`.
 *
 * ```js
 * try {
 *   for await (const message of client.subscribe('orders', 'billing', { signal: AbortSignal.timeout(60_000) })) message.finish()
 * } catch (error) {
 *   if (!(error instanceof AbortError)) throw error
 * }
 * ```
 */
export class AbortError extends MqError {
  /** Always the same. */
  readonly code: 'ABORT_ERR'
}
