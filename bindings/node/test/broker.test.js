'use strict'
// A real broker over the network, killed under publishers and workers.

const assert = require('node:assert/strict')
const path = require('node:path')
const {test} = require('node:test')

const {connect, run} = require('libmq')
const {startBroker} = require(path.join(process.env.MQ_ROOT, 'tests', 'node', 'broker.js'))

/** A client of this broker that ends with the test. */
async function clientOf(t, broker, options) {
  const client = await connect(`mq://${broker.address}`, {maxReconnectDelay: 50, ...options})
  // Closed before the broker stops.
  broker.clients.push({close: () => client.close()})
  return client
}

test('messages go over the network and back', async (t) => {
  const broker = await startBroker(t)
  const client = await clientOf(t, broker)
  const subscription = client.subscribe('t', 'c')
  const receipt = await client.publish('t', 'hello')
  const first = receipt.offset
  assert.deepEqual(receipt, {offset: first, duplicate: false, broker: broker.address})
  const headers = {colour: 'red'}
  const receipts = await client.publish('t', [{body: 'one', id: '1', headers}, {body: 'one', id: '1'}, 'two'])
  assert.deepEqual(receipts.map(({offset, duplicate}) => [offset, duplicate]), [[first + 1n, false], [first + 1n, true], [first + 2n, false]])
  const texts = []
  for await (const message of subscription) {
    assert.deepEqual([message.broker, message.offset, message.attempts], [broker.address, first + BigInt(texts.length), 1])
    assert.equal(message.headers.colour, message.text() === 'one' ? 'red' : undefined)
    texts.push(message.text())
    message.finish()
    if (texts.length === 3) break
  }
  assert.deepEqual(texts, ['hello', 'one', 'two'])
  await assert.rejects(client.stats(), {code: 'UNSUPPORTED'})
  const plain = await clientOf(t, broker, {extension: false})
  assert.equal((await plain.publish('t', 'x')).offset, undefined)
  await assert.rejects(plain.publish('t', 'x', {id: 'one'}), {code: 'UNSUPPORTED', retry: false})
})

test('a message published right after subscribe comes to a new channel', async (t) => {
  const broker = await startBroker(t)
  const client = await clientOf(t, broker)
  // The first channel gets what waited before it; the connection that publishes is there.
  await client.subscribe('t', 'first').close()
  await client.publish('t', 'before')
  for (let number = 0; number < 10; number++) {
    const subscription = client.subscribe('t', `new${number}`)
    await client.publish('t', String(number))
    const {value: message} = await subscription.next()
    assert.equal(message.text(), String(number))
    message.finish()
    await subscription.close()
  }
})

test('a released message counts no attempt, and one that is too large is left to others', async (t) => {
  const broker = await startBroker(t)
  const client = await clientOf(t, broker)
  const small = client.subscribe('t', 'c', {maxMessageBytes: 10, msgTimeout: 1000})
  await client.publish('t', ['more than ten', 'small'])
  const {value: message} = await small.next()
  assert.equal(message.text(), 'small')
  message.release()
  assert.equal(message.isAnswered, true)
  const {value: again} = await small.next()
  assert.deepEqual([again.text(), again.attempts], ['small', 1])
  again.finish()
  await small.close()
  const large = client.subscribe('t', 'c')
  const {value: batch} = await large.batches().next()
  assert.deepEqual([batch.at(0).text(), batch.at(0).attempts], ['more than ten', 1])
  batch.release()
  const {value: last} = await large.next()
  assert.equal(last.attempts, 1)
  last.finish()
  assert.throws(() => client.subscribe('t', 'c', {maxMessageBytes: -1}), /maxMessageBytes/)
})

test('bytes in flight are bounded but for a message that is alone', async (t) => {
  const broker = await startBroker(t)
  for (const client of [await clientOf(t, broker), await connect('mq:memory')]) {
    t.after(() => client.close())
    const subscription = client.subscribe('t', 'c', {maxInFlightBytes: 10})
    await client.publish('t', ['1234', '5678', 'larger than ten'])
    const {value: one} = await subscription.next()
    const {value: two} = await subscription.next()
    let isThere = false
    const next = subscription.next().finally(() => (isThere = true))
    one.finish()
    // The broker has taken the answer then, and would have sent what it lets pass.
    await subscription.flush()
    assert.equal(isThere, false)
    two.finish()
    const {value: alone} = await next
    assert.equal(alone.text(), 'larger than ten')
    alone.finish()
    assert.throws(() => client.subscribe('t', 'c', {maxInFlightBytes: 1.5}), /maxInFlightBytes/)
  }
})

test('what a worker over the network cannot do ends in the dead letter topic', async (t) => {
  const broker = await connect('mq:memory')
  t.after(() => broker.close())
  const {tcp} = await broker.serve({tcpAddress: '127.0.0.1:0', httpAddress: '', grpcAddress: ''})
  await broker.createChannel('t', 'c')
  await broker.setChannelSettings('t', 'c', {maxAttempts: 2, deadLetterTopic: 't.dead'})
  const client = await connect(`mq://${tcp}`)
  t.after(() => client.close())
  const letters = client.subscribe('t.dead', 'test')
  const ended = new AbortController()
  const handle = (message) => assert.equal(message.text(), 'fine', 'as this test wants it')
  const quick = {requeueDelay: 0, backoff: {min: 1, max: 1}, onError: () => {}, signals: []}
  const working = run(handle, {client, topic: 't', channel: 'c', signal: ended.signal, ...quick})
  await client.publish('t', ['poison', 'fine'])
  const {value: letter} = await letters.next()
  assert.deepEqual([letter.text(), letter.headers['mq-dead-letter-attempts']], ['poison', '2'])
  letter.finish()
  const channel = async () => (await broker.stats()).topics.find(({name}) => name === 't').channels[0]
  const isDone = ({finished, deadLettered}) => finished === 1 && deadLettered === 1
  while (!isDone(await channel())) await new Promise(setImmediate)
  ended.abort()
  assert.deepEqual(await working, {finished: 1, requeued: 2, givenUp: 0})
  // They say what does it instead.
  const instead = {code: 'UNSUPPORTED', message: /`mq settings` does, or \w+ \/(topic|channel)\/config over HTTP/}
  await assert.rejects(client.topicSettings('t'), instead)
  await assert.rejects(client.setTopicSettings('t', {}), instead)
  await assert.rejects(client.channelSettings('t', 'c'), instead)
  await assert.rejects(client.setChannelSettings('t', 'c', {}), instead)
})

test('messages that are published together fail each for itself', async (t) => {
  const broker = await startBroker(t, ['-max-msg-size', '1000'])
  const client = await clientOf(t, broker)
  const bodies = ['one', 'x'.repeat(2000), 'two', '', 'three']
  const outcomes = await Promise.allSettled(bodies.map((body) => client.publish('t', body)))
  const codes = outcomes.map(({reason}) => reason?.code)
  assert.deepEqual([codes[0], codes[2], codes[3], codes[4]], [undefined, undefined, 'INVALID_ARGUMENT', undefined])
  assert.ok(['REFUSED', 'INVALID_ARGUMENT'].includes(codes[1]), codes[1])
  const subscription = client.subscribe('t', 'c')
  const texts = []
  for (let n = 0; n < 3; n++) texts.push((await subscription.next()).value.text())
  assert.deepEqual(texts, ['one', 'two', 'three'])
})

test('a loop that is left gives back over the network', async (t) => {
  const broker = await startBroker(t)
  const client = await clientOf(t, broker)
  await client.publish('t', ['one', 'two'])
  for await (const message of client.subscribe('t', 'c')) {
    assert.equal(message.attempts, 1)
    break
  }
  const texts = []
  for await (const message of client.subscribe('t', 'c')) {
    texts.push(message.text())
    message.finish()
    if (texts.length === 2) break
  }
  assert.deepEqual(texts.sort(), ['one', 'two'])
})

test('what a flush has confirmed stays finished after kill -9', async (t) => {
  const broker = await startBroker(t)
  const client = await clientOf(t, broker)
  await client.publish('t', ['finished', 'left'])
  const subscription = client.subscribe('t', 'c')
  const {value: message} = await subscription.next()
  message.finish()
  assert.equal(await subscription.flush({timeout: 30_000}), true)
  await broker.kill()
  // Connected again, it would take what is left.
  await subscription.close({timeout: 0})
  await broker.run()
  const {value: again} = await (await clientOf(t, broker)).subscribe('t', 'c').next()
  assert.equal(again.text(), 'left')
  const plain = (await clientOf(t, broker, {extension: false})).subscribe('u', 'c')
  await Promise.all([client.publish('u', 'x'), plain.next()])
  await assert.rejects(plain.flush(), {code: 'UNSUPPORTED'})
})

test('nothing acknowledged is lost by kill -9', async (t) => {
  const broker = await startBroker(t)
  const [publisher, consumer] = [await clientOf(t, broker), await clientOf(t, broker)]
  const total = 6000
  const [acknowledged, seen] = [new Set(), new Set()]
  const controller = new AbortController()
  const isDone = () => acknowledged.size === total && [...acknowledged].every((body) => seen.has(body))
  const handler = async (message) => {
    seen.add(message.text())
    if (isDone()) controller.abort()
  }
  const {signal} = controller
  const worker = run(handler, {client: consumer, topic: 't', channel: 'c', concurrency: 100, signal, signals: []})
  let kills = 0
  let killing = null
  const publish = async (body) => {
    for (;;) {
      try {
        await publisher.publish('t', body)
        break
      } catch (error) {
        // Sent and not answered: sent again, as a publisher does that would rather send twice than not at all.
        assert.ok(error.code === 'UNKNOWN_OUTCOME' || error.retry, String(error))
      }
    }
    acknowledged.add(body)
    if (killing === null && acknowledged.size >= (kills + 1) * 1500 && kills < 3) {
      kills++
      killing = broker.kill().then(() => broker.run()).then(() => (killing = null))
    }
    if (isDone()) controller.abort()
  }
  const lanes = Array.from({length: 50}, async (_, lane) => {
    for (let n = lane; n < total; n += 50) await publish(`message ${n}`)
  })
  await Promise.all(lanes)
  await worker
  await killing
  assert.equal(kills, 3)
  assert.equal(seen.size, total)
})

test('of a publish that was sent and not answered nobody knows', async (t) => {
  const broker = await startBroker(t)
  const client = await clientOf(t, broker, {publishTimeout: 1000})
  await client.publish('t', 'first')
  await broker.freeze()
  const outcomes = await Promise.allSettled([client.publish('t', 'alone'), client.publish('t', ['a', 'list'])])
  broker.thaw()
  // The list waited for the one before it.
  assert.deepEqual(outcomes.map(({reason}) => [reason?.code, reason?.retry]), [['UNKNOWN_OUTCOME', false], ['TIMEOUT', true]])
})

test('a publish with a timeout of its own ends at it, and the others at theirs', async (t) => {
  const broker = await startBroker(t)
  await broker.kill()
  const client = await clientOf(t, broker, {publishTimeout: 500})
  // Those that have more time wait before and behind those that have less.
  const publishes = [['patient', 60_000], ['common'], ['hurried', 5], [['a', 'list'], 60_000]].map(([message, timeout]) =>
    client.publish('t', message, timeout === undefined ? undefined : {timeout})
  )
  for (const at of [2, 1]) {
    await assert.rejects(publishes[at], (error) => {
      assert.deepEqual([error.code, error.retry], ['TIMEOUT', true], String(error))
      assert.match(error.message, at === 2 ? /in 5 ms/ : /in 500 ms/)
      return true
    })
  }
  await broker.run()
  await Promise.all([publishes[0], publishes[3]])
  const texts = []
  for await (const message of client.subscribe('t', 'c')) {
    texts.push(message.text())
    message.finish()
    if (texts.length === 3) break
  }
  assert.deepEqual(texts, ['patient', 'a', 'list'])
  await assert.rejects(client.publish('t', 'x', {timeout: -1}), {code: 'INVALID_ARGUMENT', message: /timeout is -1/})
})

test('a publish that was never sent is out of time, and the others go on', async (t) => {
  const broker = await startBroker(t)
  await broker.kill()
  const client = await clientOf(t, broker, {publishTimeout: 3000})
  const early = ['group', ['list', 'of two']].map((message) => client.publish('t', message))
  await new Promise((resolve) => setTimeout(resolve, 2500))
  const late = [client.publish('t', 'later'), client.publish('t', ['and', 'later'])]
  for (const publish of early) {
    await assert.rejects(publish, (error) => {
      assert.deepEqual([error.code, error.retry], ['TIMEOUT', true], String(error))
      return true
    })
  }
  await broker.run()
  await Promise.all(late)
  const texts = []
  for await (const message of client.subscribe('t', 'c')) {
    texts.push(message.text())
    message.finish()
    if (texts.length === 3) break
  }
  assert.deepEqual(texts, ['later', 'and', 'later'])
})
