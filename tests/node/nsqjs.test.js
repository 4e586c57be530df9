'use strict'
// nsqjs as its users have it, against mq.

const assert = require('node:assert/strict')
const {once} = require('node:events')
const fs = require('node:fs')
const net = require('node:net')
const os = require('node:os')
const path = require('node:path')
const test = require('node:test')

const {Reader, Writer} = require('nsqjs')
const {startBroker, startLookup, startAuthServer, certificate} = require('./broker')

// How long a test waits for what must come: spent only on failure.
const timeout = 30_000

/** A connected Writer whose publishes can be awaited. */
async function writer(broker, options = {}) {
  const w = new Writer('127.0.0.1', broker.port, options)
  // A closed connection is an error event, also when the test is over.
  w.on('error', () => {})
  w.connect()
  await once(w, 'ready')
  broker.clients.push(w)
  const asked = (start) =>
    new Promise((resolve, reject) => start((error) => (error ? reject(error) : resolve())))
  return {
    publish: (body, topic = 't') => asked((done) => w.publish(topic, body, done)),
    defer: (body, ms) => asked((done) => w.deferPublish('t', [body], ms, done)),
  }
}

/** A Reader that hands each message to `handle`. */
function reader(broker, channel, options, handle) {
  const r = new Reader('t', channel, {nsqdTCPAddresses: [broker.address], lookupdPollInterval: 1, ...options})
  r.on('error', () => {})
  r.on('message', handle)
  r.connect()
  broker.clients.push(r)
  return r
}

/** The first `count` bodies of a channel, each finished. */
function collect(broker, count, options = {}, channel = 'c') {
  return new Promise((resolve) => {
    const bodies = []
    reader(broker, channel, {maxInFlight: 100, ...options}, (message) => {
      bodies.push(message.body)
      message.finish()
      if (bodies.length === count) resolve(bodies)
    })
  })
}

/** Creates channels of topic t: what is published before a channel exists goes to the others only. */
async function createChannels(broker, ...channels) {
  for (const channel of channels) {
    const socket = net.connect(broker.port, '127.0.0.1')
    socket.write(`  V2SUB t ${channel}\n`)
    const [data] = await once(socket, 'data')
    socket.destroy()
    assert.equal(data.subarray(8).toString(), 'OK')
  }
}

const texts = (bodies) => bodies.map(String)
const numbers = (count) => Array.from({length: count}, (_, n) => String(n))

test('publishes and batches arrive in order', {timeout}, async (t) => {
  const broker = await startBroker(t)
  const w = await writer(broker)
  await w.publish('one')
  await w.publish(['two', Buffer.from([0, 255, 10]), 'grüße'])
  const bodies = await collect(broker, 4)
  const expected = ['one', 'two', Buffer.from([0, 255, 10]), 'grüße'].map((body) => Buffer.from(body))
  assert.deepEqual(bodies, expected)
})

test('a deferred publish waits', {timeout}, async (t) => {
  const broker = await startBroker(t)
  const w = await writer(broker)
  const published = Date.now()
  await w.defer('later', 400)
  assert.deepEqual(texts(await collect(broker, 1)), ['later'])
  assert.ok(Date.now() - published >= 400)
})

test('a refusal reaches the caller', {timeout}, async (t) => {
  const broker = await startBroker(t)
  const w = await writer(broker)
  await assert.rejects(w.publish('x', 'bad!topic'), /E_BAD_TOPIC/)
})

test('connections share a channel and each channel gets all', {timeout}, async (t) => {
  const [broker, expected] = [await startBroker(t), numbers(300)]
  await createChannels(broker, 'shared', 'other')
  const [shared, shares] = [[], [0, 0, 0]]
  const done = new Promise((resolve) => {
    for (const n of shares.keys()) {
      reader(broker, 'shared', {maxInFlight: 1}, (message) => {
        shared.push(String(message.body))
        shares[n] += 1
        message.finish()
        if (shared.length === expected.length) resolve()
      })
    }
  })
  const other = collect(broker, expected.length, {}, 'other')
  const w = await writer(broker)
  for (const body of expected) await w.publish(body)
  assert.deepEqual(texts(await other), expected)
  await done
  assert.deepEqual(shared.sort(), [...expected].sort(), 'each once')
  assert.ok(shares.every((share) => share > 0), `each connection had some: ${shares}`)
})

test('a paused channel delivers nothing', {timeout}, async (t) => {
  const broker = await startBroker(t)
  await createChannels(broker, 'paused', 'open')
  await broker.post('/channel/pause?topic=t&channel=paused')
  const held = []
  let came
  const unpaused = new Promise((resolve) => (came = resolve))
  reader(broker, 'paused', {maxInFlight: 10}, (message) => {
    held.push(String(message.body))
    message.finish()
    if (held.length === 2) came()
  })
  const open = collect(broker, 2, {}, 'open')
  const w = await writer(broker)
  await w.publish('one')
  await w.publish('two')
  assert.deepEqual(texts(await open), ['one', 'two'])
  assert.deepEqual(held, [])
  await broker.post('/channel/unpause?topic=t&channel=paused')
  await unpaused
  assert.deepEqual(held, ['one', 'two'])
})

test('requeues count attempts until it is given up', {timeout}, async (t) => {
  const broker = await startBroker(t)
  await (await writer(broker)).publish('poison')
  const attempts = []
  const r = reader(broker, 'c', {maxAttempts: 3}, (message) => {
    attempts.push(message.attempts)
    message.requeue(0, false)
  })
  const [discarded] = await once(r, 'discard')
  assert.equal(String(discarded.body), 'poison')
  assert.deepEqual(attempts, [1, 2, 3])
})

test('a message times out unless it is touched', {timeout}, async (t) => {
  for (const touched of [false, true]) {
    const broker = await startBroker(t)
    await (await writer(broker)).publish('slow')
    const attempts = []
    await new Promise((resolve) => {
      // The shortest a client may ask for.
      reader(broker, 'c', {messageTimeout: 1000}, (message) => {
        attempts.push(message.attempts)
        if (attempts.length === 2) return resolve(message.finish())
        if (!touched) return undefined
        let halves = 0
        const work = setInterval(() => {
          halves += 1
          if (halves < 4) return message.touch()
          clearInterval(work)
          resolve(message.finish())
        }, 500)
      })
    })
    assert.deepEqual(attempts, touched ? [1] : [1, 2])
  }
})

test('a reader comes back after kill -9, and what was acknowledged is there', {timeout}, async (t) => {
  const broker = await startBroker(t)
  const [seen, waiting] = [new Set(), new Map()]
  reader(broker, 'c', {maxInFlight: 10}, (message) => {
    const body = String(message.body)
    seen.add(body)
    message.finish()
    waiting.get(body)?.()
  })
  const arrival = (body) => new Promise((resolve) => waiting.set(body, resolve))
  const before = arrival('before')
  await (await writer(broker)).publish('before')
  await before
  await broker.kill()
  await broker.run()
  const after = arrival('after')
  await (await writer(broker)).publish('after')
  await after
  await broker.kill()
  await broker.run()
  assert.deepEqual([...seen], ['before', 'after'])
})

test('a backlog larger than memory arrives whole and in order', {timeout: 2 * timeout}, async (t) => {
  const [batches, size, pad] = [16, 128, 16 << 10]
  const broker = await startBroker(t, ['-memory-limit', '8MiB'])
  const w = await writer(broker)
  for (let batch = 0; batch < batches; batch += 1) {
    await w.publish(numbers(size).map((n) => String(batch * size + Number(n)).padEnd(pad)))
  }
  const bodies = await collect(broker, batches * size)
  assert.deepEqual(texts(bodies).map((body) => body.trim()), numbers(batches * size))
})

/** Flags for TLS with a certificate of the test's own; null where no openssl is. */
function tlsFlags(t) {
  const folder = fs.mkdtempSync(path.join(os.tmpdir(), 'mq-node-tls-'))
  t.after(() => fs.rmSync(folder, {recursive: true}))
  const files = certificate(folder)
  return files && ['-tls-cert', files.cert, '-tls-key', files.key]
}

const transports = [
  {tls: false, snappy: true},
  {tls: false, deflate: true},
  {tls: true},
  {tls: true, snappy: true},
  {tls: true, deflate: true},
]

for (const transport of transports) {
  const name = Object.keys(transport).filter((key) => transport[key]).join(' and ')
  test(`over ${name}`, {timeout}, async (t) => {
    const flags = transport.tls ? tlsFlags(t) : []
    if (!flags) return t.skip('no openssl to make a certificate')
    const broker = await startBroker(t, flags)
    const options = {...transport, tlsVerification: false}
    const w = await writer(broker, options)
    const large = Buffer.alloc(100_000, 'abcdefghij')
    await w.publish('small')
    await w.publish(['in', 'a batch', large])
    const expected = ['small', 'in', 'a batch', large].map((body) => Buffer.from(body))
    assert.deepEqual(await collect(broker, expected.length, options), expected)
  })
}

for (const transport of [{}, {tls: true}, {tls: true, snappy: true}]) {
  const name = ['AUTH', ...Object.keys(transport)].join(' inside ')
  test(name, {timeout}, async (t) => {
    const auth = await startAuthServer(t)
    const flags = transport.tls ? tlsFlags(t) : []
    if (!flags) return t.skip('no openssl to make a certificate')
    if (transport.tls) flags.push('-tls-required')
    const broker = await startBroker(t, [...flags, '-auth-http-address', auth.address])
    const options = {...transport, tlsVerification: false}
    const w = await writer(broker, {...options, authSecret: 'hush'})
    await w.publish('x')
    assert.deepEqual(texts(await collect(broker, 1, {...options, authSecret: 'hush'})), ['x'])
    const query = {common_name: '', remote_ip: '127.0.0.1', secret: 'hush', tls: String(!!transport.tls)}
    assert.deepEqual(auth.asked, [query, query])

    const wrong = new Writer('127.0.0.1', broker.port, {...options, authSecret: 'wrong'})
    broker.clients.push(wrong)
    const refused = new Promise((resolve) => wrong.once('error', resolve))
    wrong.on('error', () => {})
    wrong.connect()
    assert.match(String(await refused), /E_UNAUTHORIZED/)
    const silent = await writer(broker, options)
    await assert.rejects(silent.publish('x'), /E_AUTH_FIRST/)
  })
}

test('without TLS nothing is taken where it is required', {timeout}, async (t) => {
  const flags = tlsFlags(t)
  if (!flags) return t.skip('no openssl to make a certificate')
  const broker = await startBroker(t, [...flags, '-tls-required'])
  const w = await writer(broker)
  await assert.rejects(w.publish('x'), /TLS required/)
})

test('brokers are found by lookup', {timeout}, async (t) => {
  const lookup = await startLookup(t)
  const flags = ['-lookupd-tcp-address', lookup.tcp]
  const brokers = [await startBroker(t, flags), await startBroker(t, flags)]
  const received = new Set()
  let look = () => {}
  const has = (...bodies) =>
    new Promise((resolve) => {
      look = () => bodies.every((body) => received.has(body)) && resolve()
      look()
    })
  for (const [n, broker] of brokers.entries()) await (await writer(broker)).publish(`first of ${n}`)
  const options = {lookupdHTTPAddresses: [lookup.http], lookupdPollInterval: 1, maxInFlight: 10}
  const r = new Reader('t', 'c', options)
  r.on('error', () => {})
  r.on('message', (message) => {
    received.add(message.body.toString())
    message.finish()
    look()
  })
  r.connect()
  t.after(() => r.close())
  await has('first of 0', 'first of 1')
  // One that is killed is found again where it comes back; one that is new is found with the next poll.
  await brokers[0].kill()
  await brokers[0].run()
  brokers.push(await startBroker(t, flags))
  for (const [n, broker] of brokers.entries()) await (await writer(broker)).publish(`second of ${n}`)
  await has('second of 0', 'second of 1', 'second of 2')
})
