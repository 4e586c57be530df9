'use strict'
// Workers.

const assert = require('node:assert/strict')
const {test} = require('node:test')

const {connect, run} = require('libmq')
const {connect: connectForTest} = require('libmq/testing')

/** Options of a worker that ends with `controller`, quick in everything. */
function quick(client, controller, more) {
  const common = {client, topic: 't', channel: 'c', signal: controller.signal, signals: [], onError: () => {}}
  return {...common, requeueDelay: 0, backoff: {min: 0, max: 0}, ...more}
}

async function memory(t) {
  const client = await connect('mq:memory')
  t.after(() => client.close())
  await client.createChannel('t', 'c')
  return client
}

test('a handler that fails has its message again, until it is given up', async (t) => {
  const client = await memory(t)
  await client.publish('t', ['good', 'bad', 'shy', 'own'])
  const controller = new AbortController()
  const attempts = {good: 0, bad: 0, shy: 0, own: 0}
  const [given, failures] = [[], []]
  const handler = async (message) => {
    const text = message.text()
    attempts[text]++
    if (text === 'bad' || (text === 'shy' && message.attempts === 1)) throw new Error(text)
    if (text === 'own') message.finish()
  }
  const ended = run(handler, quick(client, controller, {
    concurrency: 2,
    maxAttempts: 3,
    onError: (error) => failures.push(error.message),
    giveUp: async (message, error) => {
      given.push([message.text(), error.message])
      controller.abort()
    }
  }))
  assert.deepEqual(await ended, {finished: 3, requeued: 3, givenUp: 1})
  assert.deepEqual(attempts, {good: 1, bad: 3, shy: 2, own: 1})
  assert.deepEqual(given, [['bad', 'bad']])
  assert.deepEqual(failures.sort(), ['bad', 'bad', 'bad', 'shy'])
  assert.equal((await client.stats()).topics[0].channels[0].depth, 0)
})

test('at its end handlers complete, and what was not begun goes back', async (t) => {
  const client = await memory(t)
  await client.publish('t', ['one', 'two', 'three'])
  const controller = new AbortController()
  let complete
  const seen = []
  const handler = async (message, {signal}) => {
    seen.push(message.text())
    assert.equal(signal.aborted, false)
    controller.abort()
    await new Promise((resolve) => (complete = resolve))
  }
  const ended = run(handler, quick(client, controller, {concurrency: 1}))
  while (complete === undefined) await new Promise((resolve) => setImmediate(resolve))
  complete()
  assert.deepEqual(await ended, {finished: 1, requeued: 0, givenUp: 0})
  const rest = client.subscribe('t', 'c')
  const texts = [(await rest.next()).value.text(), (await rest.next()).value.text()]
  assert.deepEqual([...seen, ...texts].sort(), ['one', 'three', 'two'])
})

test('a handler that never ends is left behind at the deadline, and its message goes back', async (t) => {
  const client = await memory(t)
  await client.publish('t', 'slow')
  const controller = new AbortController()
  let context
  const handler = (_message, given) => {
    context = given
    controller.abort()
    return new Promise(() => {})
  }
  const ended = run(handler, quick(client, controller, {drainTimeout: 1}))
  assert.deepEqual(await ended, {finished: 0, requeued: 0, givenUp: 0})
  assert.equal(context.signal.aborted, true)
  const {value: again} = await client.subscribe('t', 'c').next()
  assert.deepEqual([again.text(), again.attempts], ['slow', 2])
})

test('a failing hook gives up nothing, and has its next turn later each time', async (t) => {
  const client = await connectForTest()
  t.after(() => client.close())
  await client.createChannel('t', 'c')
  await client.publish('t', 'x')
  const controller = new AbortController()
  let calls = 0
  const reported = t.mock.method(console, 'error', () => {})
  const giveUp = () => {
    if (++calls < 4) throw new Error('by this test')
    controller.abort()
  }
  const handler = () => Promise.reject(new Error('never'))
  const ended = run(handler, quick(client, controller, {maxAttempts: 1, giveUp}))
  for (const [seconds, expected] of [[1, 1], [2, 2], [4, 3]]) {
    // It is deferred once the hook's failure is told.
    while ((await client.stats()).topics[0].channels[0].deferred === 0) await new Promise(setImmediate)
    assert.equal(calls, expected)
    await client.advance(seconds * 1000 - 1)
    assert.equal((await client.stats()).topics[0].channels[0].deferred, 1, `it comes before ${seconds} s`)
    await client.advance(1)
  }
  assert.deepEqual(await ended, {finished: 0, requeued: 3, givenUp: 1})
  assert.equal(reported.mock.callCount(), 3)
})

test('a pause follows failures, and one message at a time tries again', async (t) => {
  const client = await memory(t)
  await client.publish('t', Array.from({length: 8}, (_, n) => String(n)))
  const controller = new AbortController()
  let [active, most, count] = [0, 0, 0]
  const handler = async (message) => {
    most = Math.max(most, ++active)
    await new Promise((resolve) => setImmediate(resolve))
    active--
    if (message.attempts === 1) throw new Error('at first')
    if (++count === 8) controller.abort()
  }
  const ended = run(handler, quick(client, controller, {concurrency: 4, backoff: {min: 1, max: 2}}))
  assert.deepEqual(await ended, {finished: 8, requeued: 8, givenUp: 0})
  assert.ok(most <= 4)
})

test('options are checked', async () => {
  const good = {url: 'mq:memory', topic: 't', channel: 'c'}
  const cases = [[null, good], [() => {}, {...good, url: undefined}], [() => {}, {...good, concurrency: 0}],
    [() => {}, {...good, maxAttempts: 0}], [() => {}, {...good, giveUp: 1}], [() => {}, {...good, retries: 1}]]
  for (const [handler, options] of cases) {
    await assert.rejects(run(handler, options), {code: 'INVALID_ARGUMENT'})
  }
})
