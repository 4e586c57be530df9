'use strict'
// Memory over many messages and errors.

const assert = require('node:assert/strict')
const {test} = require('node:test')
const {setFlagsFromString} = require('node:v8')
const {runInNewContext} = require('node:vm')

const {connect} = require('libmq')

setFlagsFromString('--expose-gc')
const collect = runInNewContext('gc')

/** A fourth of what would be there if each message left its body behind. */
const GROWTH_MAX = 40 * 2 ** 20
const MESSAGES = 1_000_000
const ERRORS = 20_000

test('memory stays flat over a million messages, and over errors', async (t) => {
  const client = await connect('mq:memory')
  t.after(() => client.close())
  const subscription = client.subscribe('t', 'c', {maxInFlight: 2000})
  const bodies = Array.from({length: 500}, () => Buffer.alloc(160, 'x'))
  const pass = async (messages) => {
    for (let n = 0; n < messages; n += bodies.length) {
      const published = client.publish('t', bodies)
      let count = 0
      while (count < bodies.length) {
        const {value} = await subscription.next()
        count += value.body.length / 160
        value.finish()
      }
      await published
    }
  }
  const fail = async (errors) => {
    for (let n = 0; n < errors; n++) await client.publish('bad name', 'x').catch(() => {})
  }
  const used = () => {
    collect()
    collect()
    const {rss, heapUsed, external} = process.memoryUsage()
    return {rss, heap: heapUsed + external}
  }
  await pass(MESSAGES / 5)
  await fail(ERRORS / 5)
  const before = used()
  await pass(MESSAGES)
  await fail(ERRORS)
  const after = used()
  assert.ok(after.heap - before.heap < 8 * 2 ** 20, `heap ${before.heap}, then ${after.heap}`)
  assert.ok(after.rss - before.rss < GROWTH_MAX, `resident ${before.rss}, then ${after.rss}`)
  assert.deepEqual(subscription.failures(), [])
})
