'use strict'
// The surface over a broker in this process.

const assert = require('node:assert/strict')
const fs = require('node:fs')
const os = require('node:os')
const path = require('node:path')
const {describe, test} = require('node:test')
const {inspect} = require('node:util')

const {connect, run, Batch, Client, Message, MqError, AbortError, Subscription} = require('libmq')
const {connect: connectForTest} = require('libmq/testing')

/** A client of a broker in memory that ends with the test. */
async function memory(t, options) {
  const client = await connect('mq:memory', options)
  t.after(() => client.close())
  return client
}

/** The next `count` messages of a subscription. */
async function take(subscription, count) {
  const messages = []
  while (messages.length < count) {
    const {done, value} = await subscription.next()
    assert.equal(done, false)
    messages.push(value)
  }
  return messages
}

const texts = (messages) => messages.map((message) => message.text())

describe('publish', () => {
  test('a message has one receipt and a list has a list', async (t) => {
    const client = await memory(t)
    assert.ok(client instanceof Client)
    const first = await client.publish('t', 'one')
    assert.deepEqual(Object.keys(first), ['offset', 'duplicate', 'broker'])
    assert.equal(first.broker, 'mq:memory')
    const [second, third] = await client.publish('t', [Buffer.from('two'), new Uint16Array([1]), 'four'])
    assert.equal(second.offset, first.offset + 1n)
    assert.equal(third.offset, first.offset + 2n)
    assert.deepEqual(await client.publish('t', []), [])
  })

  test('an id is stored once, and headers arrive as they were', async (t) => {
    const client = await memory(t)
    const subscription = client.subscribe('t', 'c')
    const headers = {colour: 'red', sizes: ['s', Buffer.from('m')], none: undefined}
    const first = await client.publish('t', 'x', {id: 'order-1', headers})
    const again = await client.publish('t', 'x', {id: 'order-1'})
    assert.deepEqual([first.duplicate, again.duplicate, again.offset], [false, true, first.offset])
    const list = [{body: 'y', id: 'order-1'}, {body: 'z', headers: [['own', '1']]}]
    const more = await client.publish('t', list, {headers: [['all', '2']]})
    assert.deepEqual(more.map((receipt) => receipt.duplicate), [true, false])
    const [x, z] = await take(subscription, 2)
    assert.deepEqual({...x.headers}, {colour: 'red', sizes: 'm'})
    const sizes = [['colour', Buffer.from('red')], ['sizes', Buffer.from('s')], ['sizes', Buffer.from('m')]]
    assert.deepEqual(x.rawHeaders, sizes)
    assert.deepEqual(z.rawHeaders, [['all', Buffer.from('2')], ['own', Buffer.from('1')]])
  })

  test('a delayed message comes after those published later', async (t) => {
    const client = await connectForTest()
    t.after(() => client.close())
    const subscription = client.subscribe('t', 'c')
    await client.publish('t', 'late', {delay: 50})
    await client.publish('t', ['soon', {body: 'later', delay: 100}])
    assert.deepEqual(texts(await take(subscription, 1)), ['soon'])
    await client.advance(50)
    assert.deepEqual(texts(await take(subscription, 1)), ['late'])
    await client.advance(50)
    assert.deepEqual(texts(await take(subscription, 1)), ['later'])
  })

  test('calls keep their order, also where the buffer has no room for them', async (t) => {
    const client = await memory(t, {maxBufferedBytes: 2048})
    const subscription = client.subscribe('t', 'c', {maxInFlight: 10_000})
    const wanted = Array.from({length: 5000}, (_, n) => `${n} ${'x'.repeat(n % 977)}`)
    const receipts = await Promise.all(wanted.map((body) => client.publish('t', body)))
    for (let n = 1; n < receipts.length; n++) assert.ok(receipts[n].offset > receipts[n - 1].offset)
    assert.deepEqual(texts(await take(subscription, wanted.length)), wanted)
  })

  test('all forms of a publish keep their order, and memory that is used again does no harm', async (t) => {
    const client = await memory(t)
    const subscription = client.subscribe('t', 'c', {maxInFlight: 10_000})
    const other = client.subscribe('u', 'c', {maxInFlight: 10_000})
    const wanted = []
    const pending = []
    const add = (bodies, ...rest) => {
      wanted.push(...[bodies].flat().map((body) => (typeof body === 'string' ? body : (body.body ?? body).toString())))
      pending.push(client.publish('t', bodies, ...rest))
    }
    const memoryToUseAgain = Buffer.alloc(8)
    for (let n = 0; n < 1500; n++) {
      memoryToUseAgain.write(String(n).padStart(8))
      add(memoryToUseAgain)
      if (n % 7 === 0) add([`list ${n}`, `of ${n}`])
      if (n % 11 === 0) add({body: `full ${n}`}, {headers: {a: 'b'}})
      if (n % 97 === 0) add(`large ${n} ${'ä'.repeat(20_000)}`)
      if (n % 13 === 0) pending.push(client.publish('u', `other ${n}`))
      if (n % 500 === 0) await pending.at(-1)
    }
    await Promise.all(pending)
    assert.deepEqual(texts(await take(subscription, wanted.length)), wanted)
    const others = Array.from({length: Math.ceil(1500 / 13)}, (_, n) => `other ${13 * n}`)
    assert.deepEqual(texts(await take(other, others.length)), others)
  })

  test('what follows a subscription is in its channel', async (t) => {
    const client = await memory(t)
    client.subscribe('t', 'first')
    await client.publish('t', 'before')
    // More than one, since a channel may be there in time by chance.
    for (let n = 0; n < 30; n++) {
      const next = client.subscribe('t', `next${n}`)
      const published = client.publish('t', `after ${n}`)
      await next.opened()
      await client.publish('t', 'too late')
      const [message] = await take(next, 1)
      assert.equal(message.text(), `after ${n}`)
      await Promise.all([published, next.close()])
    }
  })
})

describe('messages', () => {
  test('a message has all that its broker says of it', async (t) => {
    const client = await memory(t)
    const subscription = client.subscribe('t', 'c')
    const before = Date.now()
    const {offset} = await client.publish('t', JSON.stringify({pizza: 'grün'}))
    const [message] = await take(subscription, 1)
    assert.ok(message instanceof Message)
    assert.deepEqual(message.json(), {pizza: 'grün'})
    assert.ok(Buffer.isBuffer(message.body) && message.body === message.body)
    assert.match(message.id, /^[0-9a-f]{16}$/)
    assert.deepEqual([message.attempts, message.offset, message.broker], [1, offset, 'mq:memory'])
    assert.ok(message.timestamp.getTime() >= before - 1 && message.timestamp.getTime() <= Date.now() + 1)
    assert.equal(message.timestampNs / 1_000_000n, BigInt(message.timestamp.getTime()))
    assert.deepEqual(message.rawHeaders, [])
    await client.publish('t', '{')
    const [broken] = await take(subscription, 1)
    assert.throws(() => broken.json(), {name: 'MqError', code: 'INVALID_JSON'})
  })

  test('an answer after the first does nothing', async (t) => {
    const client = await memory(t)
    const subscription = client.subscribe('t', 'c')
    await client.publish('t', ['finished', 'requeued'])
    const [finished, requeued] = await take(subscription, 2)
    finished.finish()
    finished.requeue()
    finished.touch()
    requeued.touch()
    requeued.requeue({delay: 20})
    requeued.finish()
    assert.deepEqual([finished.isAnswered, requeued.isAnswered], [true, true])
    const [again] = await take(subscription, 1)
    assert.deepEqual([again.text(), again.attempts], ['requeued', 2])
    again.finish()
    await client.publish('t', 'last')
    assert.equal((await take(subscription, 1))[0].text(), 'last')
    assert.deepEqual(subscription.failures(), [])
  })

  test('a delay of more than a year is refused to a publish, and a failure of a requeue', async (t) => {
    const client = await memory(t)
    const subscription = client.subscribe('t', 'c')
    const year = 366 * 86_400_000
    for (const message of [{body: 'x', delay: year + 1}, {body: 'x', delay: Infinity}]) {
      await assert.rejects(client.publish('t', message), {code: 'INVALID_ARGUMENT', message: /delay is/})
    }
    await client.publish('t', ['x', 'y', 'z'])
    const [first, second, third] = await take(subscription, 3)
    first.requeue({delay: year})
    second.requeue({delay: year + 1})
    third.requeue({delay: Infinity})
    await subscription.flush()
    const {deferred, inFlight} = (await client.stats()).topics[0].channels[0]
    assert.deepEqual([deferred, inFlight], [1, 2])
    const failures = subscription.failures()
    assert.deepEqual(failures.map(({messageId, error}) => [messageId, error.code]), [[second.id, 'REFUSED'], [third.id, 'REFUSED']])
    for (const {error} of failures) assert.match(error.message, /at most .* are allowed, a year/)
  })

  test('a body outlives its client, and is never transferred away from its neighbours', async (t) => {
    const client = await memory(t)
    const subscription = client.subscribe('t', 'c')
    await client.publish('t', ['one', 'two'])
    const [one, two] = await take(subscription, 2)
    const {body} = one
    try {
      structuredClone(body, {transfer: [body.buffer]})
    } catch (error) {
      // Node 18 and 20 copy it instead.
      assert.equal(error.name, 'DataCloneError')
    }
    await client.close()
    one.finish()
    two.requeue()
    assert.deepEqual([body.toString(), two.text()], ['one', 'two'])
  })

  test('batches are answered as a whole', async (t) => {
    const client = await memory(t)
    const subscription = client.subscribe('t', 'c', {maxInFlight: 100})
    await client.publish('t', Array.from({length: 100}, (_, n) => String(n)))
    const seen = []
    for await (const batch of subscription.batches({max: 30})) {
      assert.ok(batch instanceof Batch && batch.length >= 1 && batch.length <= 30)
      assert.equal(batch.at(-1).text(), Array.from(batch).at(-1).text())
      assert.equal(batch.at(batch.length), undefined)
      seen.push(...texts(Array.from(batch)))
      batch.touch()
      batch.at(0).finish()
      if (seen.length === 100) batch.requeue({delay: 1})
      else batch.finish()
      if (seen.length >= 100) break
    }
    assert.deepEqual(seen, Array.from({length: 100}, (_, n) => String(n)))
  })
})

describe('subscriptions', () => {
  for (const leave of ['break', 'throw']) {
    test(`a loop left by ${leave} gives back what is not finished`, async (t) => {
      const client = await memory(t)
      const subscription = client.subscribe('t', 'c')
      await client.publish('t', ['one', 'two', 'three'])
      const loop = async () => {
        for await (const message of subscription) {
          if (message.text() === 'one') message.finish()
          else if (leave === 'break') break
          else throw new RangeError('by this test')
        }
      }
      if (leave === 'break') await loop()
      else await assert.rejects(loop(), RangeError)
      assert.equal(subscription.isClosed, true)
      const rest = await take(client.subscribe('t', 'c'), 2)
      assert.deepEqual(texts(rest).sort(), ['three', 'two'])
    })
  }

  test('an aborted loop throws, and gives back what it has', async (t) => {
    const client = await memory(t)
    const controller = new AbortController()
    const subscription = client.subscribe('t', 'c', {signal: controller.signal})
    await client.publish('t', ['one', 'two'])
    const reason = new Error('by this test')
    const seen = []
    const loop = async () => {
      for await (const message of subscription) {
        seen.push(message.text())
        controller.abort(reason)
      }
    }
    await assert.rejects(loop(), (error) => {
      assert.ok(error instanceof AbortError && error instanceof MqError)
      assert.deepEqual([error.name, error.code, error.cause], ['AbortError', 'ABORT_ERR', reason])
      return true
    })
    assert.deepEqual(seen, ['one'])
    const rest = await take(client.subscribe('t', 'c'), 2)
    assert.deepEqual(texts(rest).sort(), ['one', 'two'])
  })

  test('a wait is aborted, and an aborted signal opens nothing', async (t) => {
    const client = await memory(t)
    const controller = new AbortController()
    const waiting = client.subscribe('t', 'c', {signal: controller.signal})
    await waiting.opened()
    const next = waiting.next()
    controller.abort()
    await assert.rejects(next, {name: 'AbortError'})
    const never = client.subscribe('t', 'c', {signal: AbortSignal.abort()})
    await assert.rejects(never.next(), {name: 'AbortError'})
    assert.equal(never.isClosed, true)
  })

  test('what is wrong has a code', async (t) => {
    const client = await memory(t)
    const wrong = {code: 'INVALID_ARGUMENT'}
    assert.throws(() => client.subscribe('t', 'c', {start: {time: new Date(Number.NaN)}}), wrong)
    await assert.rejects(client.publish('t', {body: 'x', delya: 5}), {...wrong, message: /fields of a message have no "delya"/})
    await assert.rejects(run(() => {}, {client, topic: 't', channel: 'c', signals: ['SIGFOO']}), wrong)
    await assert.rejects(connect('mq:memory', {memoryLimit: 1}), wrong)
    await assert.rejects(connect('mq://127.0.0.1:1', {publishTo: 'some'}), wrong)
    assert.match(inspect(client.subscribe('t', 'c')), /Subscription \{ topic: 't', channel: 'c'/)
  })

  test('several waits share what comes', async (t) => {
    const client = await memory(t)
    const subscription = client.subscribe('t', 'c')
    const waits = Array.from({length: 20}, () => subscription.next())
    for (let n = 0; n < 20; n++) await client.publish('t', String(n))
    const messages = (await Promise.all(waits)).map(({value}) => value)
    assert.equal(new Set(texts(messages)).size, 20)
  })

  test('a subscription that is closed ends its loop', async (t) => {
    const client = await memory(t)
    const subscription = client.subscribe('t', 'c')
    assert.ok(subscription instanceof Subscription)
    assert.deepEqual([subscription.topic, subscription.channel], ['t', 'c'])
    const next = subscription.next()
    assert.equal(await subscription.close(), true)
    assert.deepEqual(await next, {done: true, value: undefined})
    assert.deepEqual(await subscription.next(), {done: true, value: undefined})
    assert.equal(await subscription.close(), true)
  })

  test('a flush waits until answers are in the log, and a closed subscription has none', async (t) => {
    const client = await memory(t)
    const subscription = client.subscribe('t', 'c', {msgTimeout: null})
    assert.equal(await subscription.flush(), true)
    await client.publish('t', 'x')
    const [message] = await take(subscription, 1)
    message.finish()
    assert.equal(await subscription.flush({timeout: 30_000}), true)
    await subscription.close()
    await assert.rejects(subscription.flush(), {code: 'CLOSED'})
  })

  test('no more than maxInFlight messages are here unanswered', async (t) => {
    const client = await memory(t)
    const subscription = client.subscribe('t', 'c', {maxInFlight: 2})
    await client.publish('t', ['one', 'two', 'three'])
    const [one] = await take(subscription, 2)
    const third = subscription.next()
    // Round trips to the broker, in which a third message would have come.
    for (let n = 0; n < 20; n++) await client.publish('u', 'x')
    assert.equal(await Promise.race([third.then(() => 'came'), new Promise((resolve) => setImmediate(resolve, 'waits'))]), 'waits')
    one.finish()
    assert.equal((await third).value.text(), 'three')
  })

  test('a program that is slow has no message time out before its turn', async (t) => {
    const client = await memory(t)
    const subscription = client.subscribe('t', 'c', {maxInFlight: 100, msgTimeout: 1000})
    await client.publish('t', Array.from({length: 60}, (_, n) => String(n)))
    const seen = []
    for await (const message of subscription) {
      seen.push(message.text())
      // All of them together take longer than one may.
      await new Promise((resolve) => setTimeout(resolve, 25))
      message.finish()
      if (seen.length === 60) break
    }
    assert.deepEqual(seen, Array.from({length: 60}, (_, n) => String(n)))
    assert.equal((await client.stats()).topics[0].channels[0].timedOut, 0)
  })

  test('batches and messages come in turns, and a batch has no more than was asked for', async (t) => {
    const client = await memory(t)
    const subscription = client.subscribe('t', 'c', {maxInFlight: 10_000})
    const wanted = Array.from({length: 5000}, (_, n) => String(n))
    await client.publish('t', wanted)
    const batches = subscription.batches({max: 7})
    const seen = []
    while (seen.length < wanted.length) {
      const {value: message} = await subscription.next()
      seen.push(message.text())
      message.finish()
      if (seen.length === wanted.length) break
      const {value: batch} = await batches.next()
      assert.ok(batch.length >= 1 && batch.length <= 7, `${batch.length} messages`)
      assert.deepEqual([batch.at(0).text(), batch.at(-1).text()], [wanted[seen.length], wanted[seen.length + batch.length - 1]])
      assert.deepEqual([batch.at(batch.length), batch.at(-1 - batch.length)], [undefined, undefined])
      for (const one of batch) seen.push(one.text())
      // One by one, with some that are answered already.
      batch.at(-1).finish()
      batch.finish()
      assert.ok(Array.from(batch).every((one) => one.isAnswered))
    }
    assert.deepEqual(seen, wanted)
    await subscription.flush()
    const {depth, inFlight} = (await client.stats()).topics[0].channels[0]
    assert.deepEqual([depth, inFlight], [0, 0])
  })

  test('timers have their turn while messages keep coming', async (t) => {
    const client = await memory(t)
    const subscription = client.subscribe('t', 'c', {maxInFlight: 100})
    await client.publish('t', Array.from({length: 20_000}, () => 'x'))
    let turns = 0
    const timer = setInterval(() => turns++, 0)
    let count = 0
    for await (const message of subscription) {
      message.finish()
      if (++count === 20_000) break
    }
    clearInterval(timer)
    assert.ok(turns > 0, 'no timer ran')
  })
})

describe('topics and channels', () => {
  test('they are created, paused, emptied and deleted, and their numbers are there', async (t) => {
    const client = await memory(t)
    await client.createTopic('t')
    await client.createChannel('t', 'c')
    await client.pauseChannel('t', 'c')
    await client.publish('t', ['one', 'two'])
    const {topics} = await client.stats()
    const {name, messageCount, messageBytes, channels} = topics[0]
    assert.deepEqual([topics.length, name, messageCount, messageBytes], [1, 't', 2, 6])
    const {depth, inFlight, paused} = channels[0]
    assert.deepEqual([depth, inFlight, paused], [2, 0, true])
    await client.emptyChannel('t', 'c')
    await client.unpauseChannel('t', 'c')
    await client.pauseTopic('t')
    await client.unpauseTopic('t')
    await client.emptyTopic('t')
    assert.equal((await client.stats()).topics[0].channels[0].depth, 0)
    const subscription = client.subscribe('t', 'c')
    await subscription.opened()
    const ended = assert.rejects(subscription.next(), {code: 'CLOSED'})
    await client.deleteChannel('t', 'c')
    await ended
    await client.deleteTopic('t')
    assert.deepEqual(await client.stats(), {topics: []})
    await assert.rejects(client.deleteTopic('t'), {code: 'REFUSED'})
    await assert.rejects(client.createTopic('bad name'), {code: 'INVALID_NAME'})
    await assert.rejects(client.createChannel('t'), {code: 'INVALID_ARGUMENT'})
  })

  test('settings of a topic are read and changed as one', async (t) => {
    const client = await memory(t)
    await client.createTopic('t')
    const {durability, ...none} = await client.topicSettings('t')
    assert.equal(durability, 'memory')
    assert.deepEqual(none, {maxMessages: 0, maxBytes: 0, maxAge: 0, overflow: 'refuse', dedupWindow: undefined, dedupMaxIds: undefined})
    const settings = {durability: 'memory', maxMessages: 10, maxBytes: 1000, maxAge: 250, overflow: 'drop-oldest', dedupWindow: 600_000, dedupMaxIds: 5}
    await client.setTopicSettings('t', settings)
    assert.deepEqual(await client.topicSettings('t'), settings)
    const refused = [
      [{durability: 'disk'}, 'INVALID_ARGUMENT', /durability is "disk": one of "memory", "flush", "sync"/],
      [{durability: null}, 'INVALID_ARGUMENT', /durability is null/],
      [{overflow: 'drop'}, 'INVALID_ARGUMENT', /overflow is "drop": one of "refuse", "drop-oldest"/],
      [{maxMessages: -1}, 'INVALID_ARGUMENT', /maxMessages is -1/],
      [{maxBytes: 1.5}, 'INVALID_ARGUMENT', /maxBytes is 1.5/],
      [{maxAge: '1'}, 'INVALID_ARGUMENT', /maxAge is "1"/],
      [{dedupWindow: 8 * 86_400_000}, 'INVALID_ARGUMENT', /7 days/],
      [{dedupMaxIds: 0}, 'INVALID_ARGUMENT', /dedupMaxIds is 0/],
      [{max_messages: 5}, 'INVALID_ARGUMENT', /max_messages/],
      [null, 'INVALID_ARGUMENT', /settings are null/]
    ]
    for (const [wrong, code, message] of refused) await assert.rejects(client.setTopicSettings('t', wrong), {code, message})
    assert.deepEqual(await client.topicSettings('t'), settings)
    await client.setTopicSettings('t', {maxMessages: 1})
    assert.deepEqual(await client.topicSettings('t'), {durability: 'memory', ...none, maxMessages: 1})
    await assert.rejects(client.topicSettings('missing'), {code: 'REFUSED'})
    await assert.rejects(client.setTopicSettings('missing', {}), {code: 'REFUSED'})
    await assert.rejects(client.topicSettings('t t'), {code: 'INVALID_NAME'})
    await assert.rejects(client.setTopicSettings('t t', {}), {code: 'INVALID_NAME'})
    await assert.rejects(client.topicSettings(), {code: 'INVALID_ARGUMENT'})
    await client.close()
    await assert.rejects(client.topicSettings('t'), {code: 'CLOSED'})
    await assert.rejects(client.setTopicSettings('t', {}), {code: 'CLOSED'})
  })

  test('a topic at its limit refuses or drops as its settings say', async (t) => {
    const client = await memory(t)
    await client.createChannel('t', 'c')
    await client.setTopicSettings('t', {maxMessages: 1})
    await client.publish('t', 'a')
    await assert.rejects(client.publish('t', 'b'), {code: 'REFUSED', retry: true})
    await client.setTopicSettings('t', {maxMessages: 1, overflow: 'drop-oldest', dedupWindow: 0})
    for (const body of ['c', 'd']) assert.equal((await client.publish('t', {body, id: '1'})).duplicate, false)
    const [message] = await take(client.subscribe('t', 'c'), 1)
    assert.equal(message.text(), 'd')
  })

  test("a channel's settings are read and changed as one, and what it can't have changes nothing", async (t) => {
    const client = await memory(t)
    await client.createChannel('t', 'c')
    assert.deepEqual(await client.channelSettings('t', 'c'), {maxAttempts: 0, deadLetterTopic: undefined, redeliveryDelay: 1000})
    const settings = {maxAttempts: 65_535, deadLetterTopic: 't.dead', redeliveryDelay: 250}
    await client.setChannelSettings('t', 'c', settings)
    assert.deepEqual(await client.channelSettings('t', 'c'), settings)
    const refused = [
      [{maxAttempts: 5}, 'INVALID_ARGUMENT', /dead_letter_topic/],
      [{deadLetterTopic: 't.dead'}, 'INVALID_ARGUMENT', /max_attempts/],
      [{maxAttempts: 5, deadLetterTopic: 't'}, 'INVALID_ARGUMENT', /own topic/],
      [{maxAttempts: 5, deadLetterTopic: 'no name'}, 'INVALID_NAME', /deadLetterTopic/],
      [{maxAttempts: 65_536, deadLetterTopic: 't.dead'}, 'INVALID_ARGUMENT', /maxAttempts is 65536/],
      [{maxAttempts: 1.5, deadLetterTopic: 't.dead'}, 'INVALID_ARGUMENT', /maxAttempts is 1.5/],
      [{maxAttempts: 5, deadLetterTopic: null}, 'INVALID_ARGUMENT', /deadLetterTopic is null/],
      [{redeliveryDelay: -1}, 'INVALID_ARGUMENT', /redeliveryDelay is -1/],
      [{max_attempts: 5}, 'INVALID_ARGUMENT', /max_attempts/],
      [null, 'INVALID_ARGUMENT', /settings are null/]
    ]
    for (const [wrong, code, message] of refused) await assert.rejects(client.setChannelSettings('t', 'c', wrong), {code, message})
    assert.deepEqual(await client.channelSettings('t', 'c'), settings)
    await client.setChannelSettings('t', 'c', {redeliveryDelay: 0})
    assert.deepEqual(await client.channelSettings('t', 'c'), {maxAttempts: 0, deadLetterTopic: undefined, redeliveryDelay: 0})
    await assert.rejects(client.channelSettings('t', 'other'), {code: 'REFUSED'})
    await assert.rejects(client.setChannelSettings('missing', 'c', {}), {code: 'REFUSED'})
    await assert.rejects(client.channelSettings('t', 'c c'), {code: 'INVALID_NAME'})
    await assert.rejects(client.setChannelSettings('t t', 'c', {}), {code: 'INVALID_NAME'})
    await assert.rejects(client.channelSettings('t'), {code: 'INVALID_ARGUMENT'})
    await client.close()
    await assert.rejects(client.channelSettings('t', 'c'), {code: 'CLOSED'})
    await assert.rejects(client.setChannelSettings('t', 'c', {}), {code: 'CLOSED'})
  })

  test('a message that nobody can do ends in the dead letter topic, and is counted', async (t) => {
    const client = await memory(t)
    await client.createChannel('t', 'c')
    await client.setChannelSettings('t', 'c', {maxAttempts: 2, deadLetterTopic: 't.dead'})
    const [work, dead] = [client.subscribe('t', 'c'), client.subscribe('t.dead', 'test')]
    await client.publish('t', {body: 'poison', headers: {colour: 'green'}})
    for (const attempt of [1, 2]) {
      assert.deepEqual((await client.stats()).topics[0].channels[0].deadLettered, 0)
      const {value: message} = await work.next()
      assert.deepEqual([message.text(), message.attempts], ['poison', attempt])
      message.requeue()
    }
    const {value: letter} = await dead.next()
    assert.equal(letter.text(), 'poison')
    const {colour, 'mq-dead-letter-topic': topic, 'mq-dead-letter-channel': channel, 'mq-dead-letter-attempts': attempts} = letter.headers
    assert.deepEqual([colour, topic, channel, attempts], ['green', 't', 'c', '2'])
    letter.finish()
    // It is in its topic before its channel is rid of it.
    while ((await client.stats()).topics[0].channels[0].deadLettered === 0) await new Promise(setImmediate)
    const {deadLettered, depth, inFlight, deferred} = (await client.stats()).topics[0].channels[0]
    assert.deepEqual([deadLettered, depth, inFlight, deferred], [1, 0, 0, 0])
  })

  test('a broker in this process is served to others until it is closed', async (t) => {
    const client = await connect('mq:memory')
    const {tcp, http, https, grpc} = await client.serve({tcpAddress: '127.0.0.1:0', httpAddress: '', httpsAddress: '', grpcAddress: ''})
    assert.deepEqual([http, https, grpc], [undefined, undefined, undefined])
    const other = await connect(`mq://${tcp}`, {compression: 'snappy', maxReconnectDelay: 50})
    t.after(() => other.close({timeout: 0}))
    await other.publish('t', 'from afar')
    const [message] = await take(client.subscribe('t', 'c'), 1)
    assert.equal(message.text(), 'from afar')
    await assert.rejects(client.serve({swim: true}), {code: 'INVALID_ARGUMENT'})
    await assert.rejects(client.serve({tcpAddress: null}), {code: 'INVALID_ARGUMENT'})
    await client.close()
  })

  test('a new channel begins where it is told to', async (t) => {
    const client = await memory(t)
    await client.createChannel('t', 'keeps')
    const [, second] = await client.publish('t', ['one', 'two', 'three'])
    for (const [start, wanted] of [['earliest', 'one'], [{offset: second.offset}, 'two'], [{time: new Date(0)}, 'one']]) {
      const subscription = client.subscribe('t', `c-${wanted}-${typeof start}`, {start})
      assert.equal((await take(subscription, 1))[0].text(), wanted)
    }
    const latest = client.subscribe('t', 'latest', {start: 'latest'})
    await client.publish('t', 'four')
    assert.equal((await take(latest, 1))[0].text(), 'four')
    for (const start of ['now', {offset: 1}, {}, {offset: -1n}, {offset: 1n, time: 1n}]) {
      assert.throws(() => client.subscribe('t', 'c', {start}), {code: 'INVALID_ARGUMENT'})
    }
  })
})

describe('errors', () => {
  const cases = [
    ['INVALID_NAME', (client) => client.publish('bad name', 'x')],
    ['INVALID_NAME', (client) => client.subscribe('bad name', 'c').next()],
    ['INVALID_NAME', (client) => client.subscribe('t', 'bad name').next()],
    ['INVALID_ARGUMENT', (client) => client.publish('t', '')],
    ['INVALID_ARGUMENT', (client) => client.publish('t', {pizza: 1})],
    ['INVALID_ARGUMENT', (client) => client.publish('t', 'half of \ud83d')],
    ['INVALID_ARGUMENT', (client) => client.publish('t', ['x', {body: '\udc00'}])],
    ['INVALID_ARGUMENT', (client) => client.publish('t', 'x', {headers: {'\ud800': 'x'}})],
    ['INVALID_ARGUMENT', (client) => client.publish('t', 12)],
    ['INVALID_ARGUMENT', (client) => client.publish(12, 'x')],
    ['INVALID_ARGUMENT', (client) => client.publish('t', ['x'], {id: 'same'})],
    ['INVALID_ARGUMENT', (client) => client.publish('t', 'x', {delay: -1})],
    ['INVALID_ARGUMENT', (client) => client.publish('t', 'x', {header: {}})],
    ['INVALID_ARGUMENT', async (client) => client.subscribe('t', 'c', {maxInFlight: 0})],
    ['INVALID_ARGUMENT', (client) => client.subscribe('t', 'c', {msgTimeout: 1}).next()],
    ['INVALID_ARGUMENT', async (client) => client.subscribe('t', 'c', {msgTimeout: 0})],
    ['INVALID_ARGUMENT', (client) => client.subscribe('t', 'c').flush({timeout: -1})],
    ['INVALID_NAME', (client) => client.subscribe('t', 'bad name').flush()],
    ['INVALID_ARGUMENT', () => connect('localhost:4150')],
    ['INVALID_ARGUMENT', () => connect('mq:memory', {publishTimeout: -1})],
    ['INVALID_ARGUMENT', () => connect('mq:memory', {durability: 'forever'})],
    ['INVALID_ARGUMENT', () => connect('mq:memory', {timeout: 1})]
  ]
  for (const [code, call] of cases) {
    test(`${code} of ${call.toString().replace(/^\S+ => |^async \S+ => /, '')}`, async (t) => {
      const client = await memory(t)
      const fails = async () => await call(client)
      await assert.rejects(fails(), (error) => {
        assert.ok(error instanceof MqError, String(error))
        assert.deepEqual([error.name, error.code, error.retry], ['MqError', code, false])
        const [, first] = error.stack.split('\n    at ')
        assert.ok(first.includes(__filename), `the stack does not begin here: ${error.stack}`)
        return true
      })
    })
  }

  test('a folder is open once, and its messages are there again', async (t) => {
    const folder = fs.mkdtempSync(path.join(os.tmpdir(), 'libmq-node-'))
    t.after(() => fs.rmSync(folder, {recursive: true}))
    const client = await connect(folder)
    await assert.rejects(connect(`mq:${folder}`), {code: 'LOCKED', retry: true})
    await client.publish('t', 'kept')
    await client.close()
    const again = await connect(folder)
    const [message] = await take(again.subscribe('t', 'c'), 1)
    assert.equal(message.text(), 'kept')
    await again.close()
  })

  test('a closed client refuses calls, and closes again', async () => {
    const client = await connect('mq:memory')
    const subscription = client.subscribe('t', 'c')
    const pending = client.publish('t', 'under way')
    const closed = client.close()
    await assert.rejects(client.publish('t', 'x'), {code: 'CLOSED'})
    assert.throws(() => client.subscribe('t', 'c'), {code: 'CLOSED'})
    assert.equal((await pending).duplicate, false)
    await closed
    await client[Symbol.asyncDispose]()
    assert.equal(client.isClosed, true)
    assert.equal((await subscription.next()).done, true)
  })
})

test('a subscription pauses, takes a sample, and has one broker in this process', async () => {
  const client = await connect('mq:memory')
  const subscription = client.subscribe('t', 'c')
  await subscription.opened()
  subscription.setMaxInFlight(0)
  await client.publish('t', 'x')
  const next = subscription.next()
  const early = await Promise.race([next.then(() => 'it came'), new Promise((resolve) => setTimeout(resolve, 50, 'paused'))])
  assert.equal(early, 'paused')
  subscription.setMaxInFlight(5)
  const {value: message} = await next
  assert.equal(message.text(), 'x')
  message.finish()
  assert.throws(() => subscription.setMaxInFlight(-1), {code: 'INVALID_ARGUMENT'})
  await assert.rejects(subscription.addBroker('a:1'), {code: 'UNSUPPORTED'})
  await assert.rejects(subscription.addBroker('nowhere'), {code: 'INVALID_ARGUMENT'})

  assert.throws(() => client.subscribe('t', 'c', {sampleRate: 100}), {code: 'INVALID_ARGUMENT'})
  const sampled = client.subscribe('s', 'c', {sampleRate: 1, maxInFlight: 5000})
  await sampled.opened()
  await client.publish('s', Array.from({length: 2000}, () => 'x'))
  let count = 0
  for await (const batch of sampled.batches()) {
    count += batch.length
    batch.finish()
    const {channels} = (await client.stats()).topics.find(({name}) => name === 's')
    if (channels[0].depth === 0) break
  }
  assert.ok(count < 200, `${count} of 2000`)
  await client.close()
})
