'use strict'
// The broker for tests.

const assert = require('node:assert/strict')
const {test} = require('node:test')

const {connect, TestClient} = require('libmq/testing')

test('time stands still until it is moved on', async (t) => {
  const client = await connect()
  t.after(() => client.close())
  assert.ok(client instanceof TestClient)
  const subscription = client.subscribe('t', 'c', {msgTimeout: 5000})
  await client.publish('t', 'in an hour', {delay: 3_600_000})
  await client.publish('t', 'at once')
  const {value: first} = await subscription.next()
  assert.equal(first.text(), 'at once')
  await client.advance(5000)
  const {value: again} = await subscription.next()
  assert.deepEqual([again.text(), again.attempts], ['at once', 2])
  again.finish()
  await client.advance(3_600_000)
  assert.equal((await subscription.next()).value.text(), 'in an hour')
})

test('a requeue with a delay comes when that is over', async (t) => {
  const client = await connect()
  t.after(() => client.close())
  const subscription = client.subscribe('t', 'c')
  await client.publish('t', 'one by one')
  const {value: message} = await subscription.next()
  message.requeue({delay: 60_000})
  await client.publish('t', 'as a batch')
  const {value: batch} = await subscription.batches().next()
  assert.deepEqual(Array.from(batch, (each) => each.text()), ['as a batch'])
  batch.requeue({delay: 60_000})
  const {deferred, depth, inFlight} = (await client.stats()).topics[0].channels[0]
  assert.deepEqual([deferred, depth, inFlight], [2, 0, 0])
  await client.advance(60_000)
  const again = [(await subscription.next()).value, (await subscription.next()).value]
  assert.deepEqual(again.map((each) => [each.text(), each.attempts]).sort(), [['as a batch', 2], ['one by one', 2]])
})

test('a touch starts the timeout anew', async (t) => {
  const client = await connect()
  t.after(() => client.close())
  const subscription = client.subscribe('t', 'c', {msgTimeout: 60_000})
  await client.publish('t', ['a', 'b'])
  const {value: batch} = await subscription.batches({max: 2}).next()
  const held = async () => (await client.stats()).topics[0].channels[0].inFlight
  for (const touch of [() => batch.touch(), () => Array.from(batch, (message) => message.touch())]) {
    await client.advance(40_000)
    touch()
    await client.advance(40_000)
    assert.equal(await held(), batch.length)
    touch()
  }
  await client.advance(61_000)
  assert.equal((await client.stats()).topics[0].channels[0].timedOut, batch.length)
})

test('another broker has no clock to move', async (t) => {
  const {connect: other} = require('libmq')
  const client = await other('mq:memory')
  t.after(() => client.close())
  assert.equal(client.advance, undefined)
})
