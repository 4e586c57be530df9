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

test('another broker has no clock to move', async (t) => {
  const {connect: other} = require('libmq')
  const client = await other('mq:memory')
  t.after(() => client.close())
  assert.equal(client.advance, undefined)
})
