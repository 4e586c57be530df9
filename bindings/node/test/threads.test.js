'use strict'
// Worker threads: each loads the package.

const assert = require('node:assert/strict')
const path = require('node:path')
const {once} = require('node:events')
const {test} = require('node:test')
const {Worker} = require('node:worker_threads')

const {connect} = require('libmq')
const {startBroker} = require(path.join(process.env.MQ_ROOT, 'tests', 'node', 'broker.js'))

const THREADS = 200
const AT_ONCE = 8

/** A thread that takes messages, finishes none, and publishes all the time: it posts what is stored. */
function takeAndPublish(url) {
  const {connect} = require('libmq')
  const {parentPort, threadId} = require('node:worker_threads')
  const main = async () => {
    const client = await connect(url)
    const memory = await connect('mq:memory')
    const own = memory.subscribe('own', 'own')
    own.batches().next()
    const publishing = async () => {
      for (let n = 0; ; n++) {
        const body = `${threadId} ${n}`
        await Promise.all([client.publish('ledger', body), memory.publish('own', 'x')])
        parentPort.postMessage({stored: body})
      }
    }
    publishing()
    let count = 0
    for await (const message of client.subscribe('t', 'c', {maxInFlight: 50})) {
      parentPort.postMessage({seen: message.text()})
      if (++count === 1000) message.finish()
    }
  }
  main()
}

test(`${THREADS} threads terminated in the middle of deliveries break, finish and lose nothing`, async (t) => {
  const broker = await startBroker(t)
  const client = await connect(`mq://${broker.address}`)
  broker.clients.push({close: () => client.close()})
  const wanted = Array.from({length: 500}, (_, n) => `message ${n}`)
  // Ahead of the threads: the channel is there, so that none of it waits in the topic.
  const opened = client.subscribe('t', 'c', {maxInFlight: 1})
  const first = await Promise.all([opened.next(), client.publish('t', wanted)])
  assert.equal(first[0].done, false)
  await opened.close()
  const [seen, stored] = [new Set(), new Set()]
  const ledger = client.subscribe('ledger', 'c', {maxInFlight: 1000})
  await ledger.opened()
  const source = `(${takeAndPublish})(${JSON.stringify(`mq://${broker.address}`)})`
  let started = 0
  const lane = async () => {
    while (started < THREADS) {
      started++
      const thread = new Worker(source, {eval: true})
      const isSeen = new Promise((resolve) => {
        thread.on('message', (message) => {
          if (message.stored !== undefined) stored.add(message.stored)
          else resolve(seen.add(message.seen))
        })
      })
      await isSeen
      assert.equal(await thread.terminate(), 1)
    }
  }
  await Promise.all(Array.from({length: AT_ONCE}, lane))
  assert.ok(seen.size > 0)
  const left = new Set()
  for await (const message of client.subscribe('t', 'c', {maxInFlight: 1000})) {
    left.add(message.text())
    message.finish()
    if (left.size === wanted.length) break
  }
  assert.deepEqual([...left].sort(), [...wanted].sort())
  // What a thread had an answer for is there, though the thread is not.
  const missing = new Set(stored)
  while (missing.size > 0) {
    const {value: message} = await ledger.next()
    message.finish()
    missing.delete(message.text())
  }
  assert.ok(stored.size > 0)
})

test('a thread that ends by itself leaves a broker in its process closed', async () => {
  const body = `
    const {connect} = require('libmq')
    connect('mq:memory').then(async (client) => {
      await client.publish('t', 'x')
      for await (const message of client.subscribe('t', 'c')) process.exit(5)
    })`
  for (let n = 0; n < 5; n++) {
    const [code] = await once(new Worker(body, {eval: true}), 'exit')
    assert.equal(code, 5)
  }
})
