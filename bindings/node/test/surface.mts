// A strict program that uses all of the surface. It is compiled, not run.
import { connect, run, MqError, AbortError, Batch, Client, Message, Subscription } from 'libmq'
import type { ChannelSettings, ErrorCode, Receipt, RunSummary, Start, Stats, TopicSettings } from 'libmq'
import nsq, { Reader, Writer } from 'libmq/nsq'
import type { ConnectionConfigOptions, ReaderConnectionConfigOptions } from 'libmq/nsq'
import { connect as connectForTest, TestClient } from 'libmq/testing'

const client: Client = await connect('mq:memory', { publishTimeout: 1000, durability: 'memory' })
const one: Receipt = await client.publish('t', 'x', { headers: { a: 'b', c: ['d', Buffer.from('e')] }, id: 'x', delay: 1, timeout: 9 })
const many: Receipt[] = await client.publish('t', ['x', new Uint8Array(1), { body: 'y', headers: [['a', 'b']] }])
const offset: bigint | undefined = many[0]?.offset ?? one.offset
const start: Start = { time: new Date(0) }
const subscription: Subscription = client.subscribe('t', 'c', { maxInFlight: 10, sampleRate: 5, start, signal: AbortSignal.timeout(1) })
subscription.setMaxInFlight(0)
await subscription.addBroker('localhost:4150')

for await (const message of subscription) {
  const received: Message = message
  const body: Buffer = received.body
  const header: string | undefined = received.headers['a']
  const at: [Date, bigint, number, string] = [received.timestamp, received.timestampNs, received.attempts, received.id]
  for (const [name, value] of received.rawHeaders) console.log(name.length, value.byteLength)
  received.touch()
  if (header === undefined) received.requeue({ delay: 10 })
  else received.finish()
  console.log(body, at, offset, received.text(), received.json().pizza)
}
for await (const batch of subscription.batches({ max: 10 })) {
  const all: Batch = batch
  for (const message of all) console.log(message.id, all.at(0)?.id)
  all.finish()
}
const { done, value } = await subscription.next()
if (!done) value.finish()
for (const { broker, messageId, error } of subscription.failures()) console.log(broker, messageId, error.code)
const isConfirmed: boolean = await subscription.flush({ timeout: 1 })
const closed: boolean = isConfirmed && await subscription.unref().ref().close({ timeout: 1 })

try {
  await client.close({ timeout: closed ? 1 : 2 })
} catch (error) {
  if (error instanceof AbortError) console.log(error.cause)
  if (error instanceof MqError) {
    const code: ErrorCode = error.code
    console.log(code === 'TIMEOUT', error.retry)
  }
}

async function scoped(): Promise<void> {
  await using own = await connect('mq:memory')
  await using mine = own.subscribe('t', 'c', { msgTimeout: null })
  await mine.opened()
}
await scoped()

const stats: Stats = await client.stats()
await client.pauseChannel('t', 'c')
console.log(stats.topics[0]?.channels[0]?.depth, stats.topics[0]?.channels[0]?.deadLettered)

const settings: ChannelSettings = await client.channelSettings('t', 'c')
settings.deadLetterTopic = undefined
await client.setChannelSettings('t', 'c', { ...settings, maxAttempts: 5, deadLetterTopic: 't.dead' })
await client.setChannelSettings('t', 'c', { redeliveryDelay: 0 })

const topic: TopicSettings = await client.topicSettings('t')
await client.setTopicSettings('t', { ...topic, overflow: 'drop-oldest', dedupWindow: undefined })
await client.setTopicSettings('t', { maxAge: 60_000, durability: 'sync' })

const summary: RunSummary = await run(
  async (message, { signal }) => {
    await fetch('http://localhost', { signal, body: message.text(), method: 'POST' })
  },
  { url: 'mq:memory', topic: 't', channel: 'c', maxAttempts: 3, giveUp: (message, error) => console.log(message.id, error) }
)
await run((message) => message.finish(), { client, topic: 't', channel: 'c', signals: ['SIGHUP'] })

const test: TestClient = await connectForTest()
await test.advance(1)
console.log(summary.finished)

const common: ConnectionConfigOptions = { tls: true, ca: Buffer.from('x'), authSecret: null }
const options: ReaderConnectionConfigOptions = { ...common, nsqdTCPAddresses: 'a:1', maxAttempts: 3 }
const reader = new Reader('t', 'c', options)
reader.on(Reader.MESSAGE, (message) => {
  const left: number | null = message.timeUntilTimeout(true)
  if (left === null || message.hasResponded) message.requeue(5, false)
  else message.finish()
})
reader.on('nsqd_connected', (host, port) => console.log(host.length, port + 1))
reader.connect()
const writer = new nsq.Writer('a', 1, common)
writer.on('error', (error) => console.log(error.code))
writer.publish('t', [{ a: 1 }, 'x'], (error) => console.log(error?.message))
await writer.deferPublish('t', 'x', 5)
await Promise.all([writer.close({ timeout: 1 }), reader.close()])
console.log(Writer.READY === 'ready')
