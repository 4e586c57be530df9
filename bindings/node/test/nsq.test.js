'use strict'
// libmq/nsq: nsqjs's documented programs, and programs beside nsqjs itself on one broker.

const assert = require('node:assert/strict')
const {spawn} = require('node:child_process')
const {once} = require('node:events')
const fs = require('node:fs')
const https = require('node:https')
const os = require('node:os')
const path = require('node:path')
const {test} = require('node:test')

const nsq = require('libmq/nsq')
const {connect} = require('libmq')
const {startBroker, startLookup, certificate} = require(path.join(process.env.MQ_ROOT, 'tests', 'node', 'broker.js'))

const NSQJS = path.join(process.env.MQ_NODE_TOOLS, 'nsqjs')

/** Runs a program on `module`, as `nsq`, to its end or until it printed a line that matches `until`. Returns its lines. */
async function run(source, {module = 'libmq/nsq', port = 0, topic = 't', until, during} = {}) {
  const head = `const nsq = require(${JSON.stringify(module)}); const [PORT, TOPIC] = [${port}, ${JSON.stringify(topic)}];`
  const program = spawn(process.execPath, ['-e', head + source], {cwd: __dirname, stdio: ['pipe', 'pipe', 'pipe']})
  const ended = once(program, 'exit')
  let [out, errors] = ['', '']
  program.stderr.on('data', (chunk) => (errors += chunk))
  program.stdout.on('data', async (chunk) => {
    out += chunk
    during?.(out, program)
    if (until?.test(out)) program.kill('SIGKILL')
  })
  const timer = setTimeout(() => program.kill('SIGKILL'), 30_000)
  const [code, signal] = await ended
  clearTimeout(timer)
  if (until === undefined || !until.test(out)) assert.deepEqual([code, signal], [0, null], out + errors)
  return {lines: out.split('\n').filter((line) => line !== ''), errors}
}

/** What a program prints on nsqjs and on libmq/nsq, each on a topic of its own. */
async function both(t, source, options = {}) {
  const broker = await startBroker(t)
  const sides = []
  for (const module of [NSQJS, 'libmq/nsq']) {
    sides.push(await run(source, {module, port: broker.port, topic: `on_${path.basename(module)}`, ...options}))
  }
  return sides
}

/** Prints an event with its arguments in a form that both have. */
const SAY = `
  const shown = (x) => x instanceof Error ? (x.code === 'ECONNREFUSED' ? x.code + ' ' + x.message : x.message.replace(/[0-9a-f]{16}/g, 'ID'))
    : typeof x === 'object' && x !== null && 'attempts' in x ? x.body + ' ' + x.attempts : x
  const say = (who, ...args) => console.log(who, ...args.map(shown))
  const watch = (who, of, names) => names.forEach((name) => of.on(name, (...args) => say(who, name, ...args)))
  const READER = ['ready', 'not_ready', 'error', 'nsqd_connected', 'nsqd_closed', 'message', 'discard']
  const WRITER = ['ready', 'closed', 'error']
`

const README_READER = `
const reader = new nsq.Reader('sample_topic', 'test_channel', {
  lookupdHTTPAddresses: 'LOOKUP'
})

reader.connect()

reader.on('message', msg => {
  console.log('Received message [%s]: %s', msg.id, msg.body.toString())
  msg.finish()
})
`

const README_TOUCH = `
const reader = new nsq.Reader('sample_topic', 'test_channel', {
  lookupdHTTPAddresses: 'LOOKUP', messageTimeout: 2000
})

reader.connect()

reader.on('message', msg => {
  console.log('Received message [%s]', msg.id)

  const touch = () => {
    if (!msg.hasResponded) {
      console.log('Touch [%s]', msg.id)
      msg.touch()

      // Touch the message again a second before the next timeout.
      setTimeout(touch, msg.timeUntilTimeout() - 1000)
    }
  }

  const finish = () => {
    console.log('Finished message [%s]: %s', msg.id, msg.body.toString())
    msg.finish()
  }

  console.log('Message timeout is %f secs.', Math.ceil(msg.timeUntilTimeout() / 1000))
  setTimeout(touch, msg.timeUntilTimeout() - 1000)

  // Finish the message after 2 timeout periods and 1 second.
  setTimeout(finish, msg.timeUntilTimeout() * 2 + 1000)
})
`

const README_WRITER = `
const w = new nsq.Writer('127.0.0.1', PORT)

w.connect()

w.on('ready', () => {
  w.publish('sample_topic', 'it really tied the room together')
  w.deferPublish('sample_topic', ['This message gonna arrive 1 sec later.'], 1000)
  w.publish('sample_topic', [
    'Uh, excuse me. Mark it zero. Next frame.', 
    'Smokey, this is not \\'Nam. This is bowling. There are rules.'
  ])
  w.publish('sample_topic', 'Wu?',  err => {
    if (err) { return console.error(err.message) }
    console.log('Message sent successfully')
    w.close()
  })
})

w.on('closed', () => {
  console.log('Writer closed')
})
`

test("nsqjs's documented programs run, with another name", async (t) => {
  const lookup = await startLookup(t)
  const flags = ['-lookupd-tcp-address', lookup.tcp, '-broadcast-address', '127.0.0.1']
  const broker = await startBroker(t, flags)
  const {lines: written, errors} = await run(README_WRITER, {port: broker.port})
  assert.deepEqual([written, errors], [['Message sent successfully', 'Writer closed'], ''])
  const {lines} = await run(README_READER.replace('LOOKUP', lookup.http), {until: /(Received.*\n){5}/})
  const bodies = lines.map((line) => /^Received message \[[0-9a-f]{16}\]: (.*)$/.exec(line)?.[1])
  // The one that is late has its turn among the others, if the reader is.
  assert.deepEqual(bodies.filter((body) => !body.endsWith('1 sec later.')), [
    'it really tied the room together',
    'Uh, excuse me. Mark it zero. Next frame.',
    "Smokey, this is not 'Nam. This is bowling. There are rules.",
    'Wu?'
  ])
})

test("nsqjs's documented program keeps a slow message by touching it", async (t) => {
  const lookup = await startLookup(t)
  const broker = await startBroker(t, ['-lookupd-tcp-address', lookup.tcp, '-broadcast-address', '127.0.0.1'])
  await run(`const w = new nsq.Writer('127.0.0.1', PORT); w.connect(); w.publish('sample_topic', 'x', () => w.close())`, {port: broker.port})
  const {lines} = await run(README_TOUCH.replace('LOOKUP', `http://${lookup.http}/lookup`), {until: /Finished/})
  assert.deepEqual([lines[0].slice(0, 16), lines[1]], ['Received message', 'Message timeout is 2 secs.'])
  assert.ok(lines.slice(2, -1).length >= 3, String(lines))
  assert.ok(lines.slice(2, -1).every((line) => line.startsWith('Touch')), String(lines))
})

test('publishes, deliveries, requeues, discards and the end come in the order of nsqjs', async (t) => {
  const [wanted, got] = await both(t, `${SAY}
    const w = new nsq.Writer('127.0.0.1', PORT)
    watch('writer', w, WRITER)
    w.connect()
    w.on('ready', () => {
      w.publish(TOPIC, 'one', (err) => say('stored', err))
      w.publish(TOPIC, ['two', {three: 3}, Buffer.from('four')], (err) => {
        say('stored', err)
        const r = new nsq.Reader(TOPIC, 'c', {
          nsqdTCPAddresses: '127.0.0.1:' + PORT, maxAttempts: 2, requeueDelay: 50, maxBackoffDuration: 1
        })
        watch('reader', r, READER)
        r.on('message', (m) => {
          say(typeof m.timestamp, m.id.length, m.hasResponded, m.touchCount, m.timedOut, m.timeUntilTimeout() > 59000, m.timeUntilTimeout(true) > 899000)
          if (m.body.toString() === 'two') return m.requeue()
          m.touch()
          m.on('respond', (type, data) => say('respond', type, data.toString().replace(m.id, 'ID').trim()))
          m.finish()
        })
        r.on('discard', () => setTimeout(() => { r.close(); w.close() }, 200))
        r.connect()
      })
    })`)
  assert.equal(got.errors, '')
  assert.deepEqual(got.lines, wanted.lines)
  assert.ok(wanted.lines.includes('reader discard two 3'), String(wanted.lines))
})

test('a broker that is not there is told in the order of nsqjs', async () => {
  const source = `${SAY}
    const r = new nsq.Reader('t', 'c', {nsqdTCPAddresses: ['127.0.0.1:1']})
    watch('reader', r, READER)
    r.connect()
    setTimeout(() => { const w = new nsq.Writer('127.0.0.1', 1); watch('writer', w, WRITER); w.connect() }, 500)
    setTimeout(() => process.exit(), 1000)`
  const [wanted, got] = [await run(source, {module: NSQJS}), await run(source)]
  // nsqjs emits each error a second time, after the end.
  assert.deepEqual(wanted.lines.filter((line, at) => wanted.lines.indexOf(line) === at), got.lines)
  assert.deepEqual(got.lines.slice(0, 2), ['reader error ECONNREFUSED connect ECONNREFUSED 127.0.0.1:1', 'reader nsqd_closed 127.0.0.1 1'])
})

test('a broker that is killed is told in the order of nsqjs, and then connected again', async (t) => {
  const source = `${SAY}
    const w = new nsq.Writer('127.0.0.1', PORT)
    const r = new nsq.Reader(TOPIC, 'c', {nsqdTCPAddresses: '127.0.0.1:' + PORT})
    watch('writer', w, WRITER)
    w.on('ready', () => { if (w.again) return; w.again = true; watch('reader', r, READER); r.connect() })
    r.on('message', (m) => m.finish())
    w.connect()
    process.stdin.on('data', () => w.publish(TOPIC, 'after', (err) => say('stored', err)))
    process.stdin.unref()`
  const sides = []
  for (const module of [NSQJS, 'libmq/nsq']) {
    const broker = await startBroker(t)
    let killed
    const during = (out, program) => {
      if (/reader ready/.test(out) && killed === undefined) killed = broker.kill()
      if (/not_ready/.test(out) && /closed/.test(out) && killed !== 'again') {
        killed = 'again'
        if (module === NSQJS) program.kill('SIGKILL')
        else broker.run().then(() => program.stdin.write('go'))
      }
    }
    const until = module === NSQJS ? /not_ready/ : /message after/
    const {lines} = await run(source, {module, port: broker.port, topic: 'k', until, during})
    sides.push(lines.map((line) => line.replace(String(broker.port), 'PORT')))
    if (module === NSQJS) await broker.run()
  }
  const of = (who, lines) => lines.filter((line) => line.startsWith(who))
  const [wanted, got] = sides
  for (const who of ['reader', 'writer']) {
    const before = of(who, wanted).filter((line) => !line.includes('error'))
    assert.deepEqual(of(who, got).slice(0, before.length), before, String(got))
  }
  assert.deepEqual(of('reader', got).slice(-3).map((line) => line.split(' ')[1]), ['nsqd_connected', 'ready', 'message'])
  assert.ok(got.includes('stored null'), String(got))
})

test('an answer that comes too late is an error to listeners, and ends no process that has none', async (t) => {
  const source = `${SAY}
    const r = new nsq.Reader(TOPIC, 'c', {nsqdTCPAddresses: '127.0.0.1:' + PORT, messageTimeout: 1000})
    if (process.argv[1] !== 'unheard') watch('reader', r, ['error'])
    let isFirst = true
    r.on('message', (m) => {
      if (!isFirst) return
      isFirst = false
      r.pause()
      setTimeout(() => { m.finish(); setTimeout(() => r.close(), 300) }, 1300)
    })
    const w = new nsq.Writer('127.0.0.1', PORT)
    w.connect()
    w.publish(TOPIC, 'x', () => { r.connect(); w.close() })`
  const [wanted, got] = await both(t, source.replace("w.connect()", "w.connect(); w.on('ready', () =>").concat(')'))
  assert.deepEqual(got.lines, wanted.lines)
  assert.match(String(got.lines), /^reader error E_FIN_FAILED FIN ID failed/)
  const broker = await startBroker(t)
  const {errors} = await run(`process.argv[1] = 'unheard';${source}`, {port: broker.port})
  assert.match(errors, /LibmqWarning: E_FIN_FAILED/)
})

test('options are refused in the words of nsqjs', async () => {
  const real = require(NSQJS)
  const cases = [
    {}, {nsqdTCPAddresses: []}, {nsqdTCPAddresses: 'a'}, {nsqdTCPAddresses: [':1']}, {nsqdTCPAddresses: 5},
    {lookupdHTTPAddresses: 'nowhere'}, {lookupdHTTPAddresses: 'ftp://a:1'}, {maxInFlight: 0}, {maxInFlight: '1'},
    {maxInFlight: NaN}, {deflateLevel: 10}, {sampleRate: 100}, {sampleRate: 0}, {messageTimeout: 0}, {heartbeatInterval: 0},
    {lookupdPollJitter: 1}, {lookupdPollJitter: 0}, {lookupdPollJitter: null}, {tls: 1}, {snappy: 'yes'}, {key: 'text'},
    {authSecret: ''}, {clientId: 7}, {name: ''}, {requeueDelay: -1}, {maxAttempts: -1}, {maxBackoffDuration: 'long'},
    {outputBufferSize: 1}, {outputBufferSize: -1}, {outputBufferTimeout: 0}, {idleTimeout: -1}, {lowRdyTimeout: 0},
    {maxInFlight: null}, {unknown: 1}, {snappy: true, deflate: true}, {authSecret: null}
  ]
  const outcome = (make) => {
    try {
      make()
      return 'taken'
    } catch (error) {
      return error.message
    }
  }
  for (const options of cases) {
    const given = 'nsqdTCPAddresses' in options || 'lookupdHTTPAddresses' in options || Object.keys(options).length === 0
    const all = given ? options : {nsqdTCPAddresses: 'a:1', ...options}
    const told = JSON.stringify(all)
    assert.equal(outcome(() => new nsq.Reader('t', 'c', all)), outcome(() => new real.Reader('t', 'c', all)), told)
    assert.equal(outcome(() => new nsq.Writer('a', 1, options)), outcome(() => new real.Writer('a', 1, options)), told)
  }
})

test('publishes that can not be are refused in the words of nsqjs', async (t) => {
  const [wanted, got] = await both(t, `${SAY}
    const w = new nsq.Writer('127.0.0.1', PORT)
    const attempt = (what, call) => { try { say(what, call()) } catch (error) { say(what, 'thrown', error) } }
    attempt('early', () => w.publish(TOPIC, 'x'))
    w.publish(TOPIC, 'x', (err) => say('early', err))
    w.connect()
    w.on('ready', () => {
      for (const nothing of ['', [], {}, null, undefined, 5, true, Buffer.alloc(0), new Map()]) {
        w.publish(TOPIC, nothing, (err) => say('nothing', err))
      }
      attempt('nothing', () => w.publish(TOPIC, ''))
      for (const time of [0, -1, '5', NaN]) w.deferPublish(TOPIC, ['x'], time, (err) => say('time', err))
      w.publish(TOPIC, new String('text'), (err) => { say('stored', err); w.close() })
    })
    w.on('closed', () => { w.publish(TOPIC, 'x', (err) => say('late', err)) })`)
  assert.deepEqual(got.lines, wanted.lines)
})

test('what is paused comes once it is not', async (t) => {
  const [wanted, got] = await both(t, `${SAY}
    const w = new nsq.Writer('127.0.0.1', PORT)
    const r = new nsq.Reader(TOPIC, 'c', {nsqdTCPAddresses: '127.0.0.1:' + PORT})
    watch('reader', r, READER)
    w.connect()
    w.on('ready', () => w.publish(TOPIC, 'first', () => r.connect()))
    r.on('message', (m) => {
      m.finish()
      if (m.body.toString() === 'second') { r.close(); w.close(); return }
      r.pause()
      say(r.isPaused())
      w.publish(TOPIC, 'second', () => setTimeout(() => { say('unpause'); r.unpause(); say(r.isPaused()) }, 300))
    })`)
  assert.deepEqual(got.lines, wanted.lines)
})

test('a message of raw bytes is that of nsqjs', () => {
  const real = require(NSQJS)
  const raw = Buffer.concat([Buffer.from('000001741a2b3c4d0003', 'hex'), Buffer.from('0123456789abcdef{"a": 1}')])
  const facts = (Message) => {
    const m = new Message(raw, 90_000, 60_000, 900_000)
    const answers = []
    m.on('respond', (type, data) => answers.push([type, data.toString()]))
    m.on('backoff', () => answers.push('backoff'))
    m.touch()
    m.requeue(5)
    const all = [m.id, m.timestamp, m.attempts, m.body.toString(), m.json(), m.requeueDelay, m.touchCount, m.rawMessage]
    return new Promise((resolve) => setImmediate(() => resolve([...all, answers, m.hasResponded, m.timeUntilTimeout()])))
  }
  assert.throws(() => new nsq.Message(raw.subarray(0, 28)).json(), {message: 'Invalid JSON in Message'})
  return Promise.all([facts(nsq.Message), facts(real.Message)]).then(([got, wanted]) => {
    const sorted = (answers) => answers.map(String).sort()
    assert.deepEqual(sorted(got.splice(8, 1)[0]), sorted(wanted.splice(8, 1)[0]))
    assert.deepEqual(got, wanted)
  })
})

/** A reader and a writer of `broker` that end with the test. */
function pair(t, broker, options = {}) {
  const writer = new nsq.Writer('127.0.0.1', broker.port)
  const reader = new nsq.Reader('t', 'c', {nsqdTCPAddresses: broker.address, ...options})
  broker.clients.push({close: () => writer.close()}, {close: () => reader.close()})
  writer.connect()
  return {writer, reader}
}

test('promises stand beside callbacks, and a reader opens again after close', async (t) => {
  const broker = await startBroker(t)
  const {writer, reader} = pair(t, broker)
  await writer.publish('t', 'one')
  await writer.deferPublish('t', 'two', 1)
  await assert.rejects(writer.publish('no spaces', 'x'), {code: 'INVALID_NAME'})
  const bodies = []
  reader.on('message', (message) => {
    bodies.push(message.body.toString())
    message.finish()
  })
  reader.connect()
  while (bodies.length < 2) await once(reader, 'message')
  await reader.close()
  await writer.publish('t', 'three')
  reader.connect()
  await once(reader, 'message')
  assert.deepEqual(bodies, ['one', 'two', 'three'])
})

test('a close with a timeout lets handlers answer, and takes no more', async (t) => {
  const broker = await startBroker(t)
  const {writer, reader} = pair(t, broker, {maxInFlight: 2})
  const held = []
  reader.on('message', (message) => held.push(message))
  await writer.publish('t', ['1', '2', '3'])
  reader.connect()
  while (held.length < 2) await once(reader, 'message')
  const closing = reader.close({timeout: 30_000})
  held.forEach((message) => message.finish())
  await closing
  assert.equal(held.length, 2)
  const client = await connect(`mq://${broker.address}`)
  broker.clients.push({close: () => client.close()})
  const {value: message} = await client.subscribe('t', 'c').next()
  assert.deepEqual([message.text(), message.attempts], ['3', 1])
  message.finish()
})

test('failures make a reader pause, and one success lets all come', async (t) => {
  const broker = await startBroker(t)
  const {writer, reader} = pair(t, broker, {maxInFlight: 10, requeueDelay: 0, maxBackoffDuration: 10})
  const [times, seen] = [[], new Set()]
  reader.on('message', (message) => {
    times.push(performance.now())
    if (times.length === 1) message.requeue()
    else {
      seen.add(message.body.toString())
      message.finish()
    }
  })
  await writer.publish('t', 'x')
  reader.connect()
  while (times.length < 2) await once(reader, 'message')
  // One step of the curve of 10 s: 0.25 * 10 / 10 + 0.75 * 10 / 250.
  const pause = times[1] - times[0]
  assert.ok(pause >= 275 && pause < 2000, `${pause} ms`)
  await writer.publish('t', Array.from({length: 50}, (_, n) => `${n}`))
  while (seen.size < 51) await once(reader, 'message')
})

test('one more broker can be consumed from, and a paused reader connects later', async (t) => {
  const [first, second] = [await startBroker(t), await startBroker(t)]
  const {writer, reader} = pair(t, first, {maxInFlight: 4})
  const other = new nsq.Writer('127.0.0.1', second.port)
  second.clients.push({close: () => other.close()}, {close: () => reader.close()})
  other.connect()
  await Promise.all([writer.publish('t', 'first'), other.publish('t', 'second')])
  const seen = []
  reader.on('message', (message) => {
    seen.push(`${message.body} ${message.broker}`)
    message.finish()
  })
  reader.pause()
  reader.connect()
  reader.connectToNSQD('127.0.0.1', second.port)
  assert.deepEqual(reader.connectionIds, [])
  reader.unpause()
  while (seen.length < 2) await once(reader, 'message')
  assert.deepEqual(seen.sort(), [`first ${first.address}`, `second ${second.address}`])
})

test('certificates are given as buffers', async (t) => {
  const folder = fs.mkdtempSync(path.join(os.tmpdir(), 'libmq-'))
  t.after(() => fs.rmSync(folder, {recursive: true}))
  const made = certificate(folder)
  if (made === null) {
    t.skip('no openssl on the path')
    return
  }
  const broker = await startBroker(t, ['-tls-cert', made.cert, '-tls-key', made.key])
  const [key, cert] = [fs.readFileSync(made.key), fs.readFileSync(made.cert)]
  const publish = async (options) => {
    const writer = new nsq.Writer('127.0.0.1', broker.port, {tls: true, ...options})
    const error = once(writer, 'error')
    writer.connect()
    const outcome = await Promise.race([writer.publish('t', 'x').then(() => 'stored', ({message}) => message), error.then(([{message}]) => message)])
    error.catch(() => {})
    await writer.close({timeout: 0})
    return outcome
  }
  assert.equal(await publish({tlsVerification: false, key, cert}), 'stored')
  assert.match(await publish({}), /certificate/i)
  const mismatched = await publish({tlsVerification: false, cert, key: fs.readFileSync(certificate(fs.mkdtempSync(`${folder}/`)).key)})
  assert.ok(/PEM text/.test(mismatched) && !mismatched.includes('PRIVATE'), mismatched)
})

test('lookup servers are asked over https, and the brokers that they name are connected over TLS', async (t) => {
  const folder = fs.mkdtempSync(path.join(os.tmpdir(), 'libmq-'))
  t.after(() => fs.rmSync(folder, {recursive: true}))
  const made = certificate(folder)
  if (made === null) {
    t.skip('no openssl on the path')
    return
  }
  const broker = await startBroker(t, ['-tls-cert', made.cert, '-tls-key', made.key, '-tls-required=true'])
  const [key, cert] = [fs.readFileSync(made.key), fs.readFileSync(made.cert)]
  const asked = []
  const lookup = https.createServer({key, cert}, (request, response) => {
    asked.push(request.url)
    response.end(JSON.stringify({producers: [{broadcast_address: '127.0.0.1', tcp_port: broker.port}]}))
  })
  await once(lookup.listen(0, '127.0.0.1'), 'listening')
  t.after(() => lookup.close())
  const lookupdHTTPAddresses = `https://127.0.0.1:${lookup.address().port}/lookup`
  const writer = new nsq.Writer('127.0.0.1', broker.port, {tls: true, ca: cert})
  const reader = new nsq.Reader('t', 'c', {lookupdHTTPAddresses, tls: true, ca: cert})
  broker.clients.push({close: () => writer.close()}, {close: () => reader.close()})
  writer.connect()
  await writer.publish('t', 'x')
  reader.connect()
  const [message] = await once(reader, 'message')
  message.finish()
  assert.deepEqual([message.body.toString(), message.broker, asked[0]], ['x', broker.address, '/lookup?topic=t'])

  const wary = new nsq.Reader('t', 'c', {lookupdHTTPAddresses})
  broker.clients.push({close: () => wary.close()})
  wary.connect()
  const [error] = await once(wary, 'lookupd_error')
  assert.match(error.message, /certificate/i)
})

test("a reader that sets no messageTimeout has its broker's own", async (t) => {
  const broker = await startBroker(t, ['-msg-timeout', '5s'])
  const source = `
    const w = new nsq.Writer('127.0.0.1', PORT)
    const r = new nsq.Reader(TOPIC, 'c', {nsqdTCPAddresses: '127.0.0.1:' + PORT, messageTimeout: null})
    w.connect()
    w.on('ready', () => w.publish(TOPIC, 'x', () => r.connect()))
    r.on('message', (m) => {
      console.log(m.msgTimeout, m.timeUntilTimeout() <= 5000)
      m.finish()
      process.nextTick(() => setTimeout(() => { r.close(); w.close() }, 50))
    })`
  for (const module of [NSQJS, 'libmq/nsq']) {
    const {lines} = await run(source, {module, port: broker.port, topic: path.basename(module)})
    assert.deepEqual(lines, ['5000 true'], module)
  }
})

test('what is no text is published as nsqjs publishes it', async (t) => {
  const broker = await startBroker(t)
  const {writer, reader} = pair(t, broker)
  await writer.publish('t', 'half of \ud83d')
  reader.connect()
  const [message] = await once(reader, 'message')
  message.finish()
  assert.equal(message.body.toString(), 'half of \ufffd')
})

test('what nsqjs has and this does not says what to use', () => {
  assert.throws(() => new nsq.NSQDConnection('a', 1, 't', 'c'), /use Reader and Writer/)
  assert.throws(() => new nsq.Reader('t', 'c', {lookupdHTTPAddresses: 'https://a/nsq/lookup'}), /http\(s\):\/\/host:port\/lookup/)
})
