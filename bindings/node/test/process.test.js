'use strict'
// Processes: what keeps them alive, and how they end.

const assert = require('node:assert/strict')
const {spawn} = require('node:child_process')
const {once} = require('node:events')
const fs = require('node:fs')
const net = require('node:net')
const os = require('node:os')
const path = require('node:path')
const readline = require('node:readline')
const {text} = require('node:stream/consumers')
const {test} = require('node:test')

/** Starts a program, whose body may await. */
function start(t, body) {
  const source = `const {connect, run} = require('libmq'); (async () => {${body}})()`
  const child = spawn(process.execPath, ['-e', source], {cwd: __dirname, stdio: ['ignore', 'pipe', 'pipe']})
  t.after(() => child.kill('SIGKILL'))
  return child
}

/** Runs a program to its end. Returns its exit code and signal, and what it printed. */
async function ended(child) {
  const [[code, signal], out, err] = await Promise.all([once(child, 'exit'), text(child.stdout), text(child.stderr)])
  return {code, signal, out, err}
}

test('an open subscription keeps the process alive, and closing lets it end', async (t) => {
  const child = start(t, `
    const client = await connect('mq:memory')
    const subscription = client.subscribe('t', 'c')
    setTimeout(() => client.publish('t', 'x'), 20).unref()
    for await (const message of subscription) {
      console.log(message.text())
      message.finish()
      await client.close()
    }
    console.log('over')
  `)
  assert.deepEqual(await ended(child), {code: 0, signal: null, out: 'x\nover\n', err: ''})
})

test('an aborted loop throws though nothing else keeps the process alive', async (t) => {
  for (const signal of ['AbortSignal.timeout(20)', 'aborted()']) {
    const child = start(t, `
      const aborted = () => {
        const controller = new AbortController()
        setTimeout(() => controller.abort(), 20)
        return controller.signal
      }
      const client = await connect('mq:memory')
      try {
        for await (const message of client.subscribe('t', 'c', {signal: ${signal}})) message.finish()
      } catch (error) {
        console.log(error.name)
      } finally {
        console.log('finally')
      }
    `)
    assert.deepEqual(await ended(child), {code: 0, signal: null, out: 'AbortError\nfinally\n', err: ''})
  }
})

test('a process ends although a client or a subscription without ref is open', async (t) => {
  const child = start(t, `
    const client = await connect('mq:memory')
    const subscription = client.subscribe('t', 'c').unref()
    subscription.ref().unref()
    subscription.next().then(() => console.log('never'))
    await client.publish('u', 'x')
    process.on('exit', () => console.log('ends'))
  `)
  assert.deepEqual(await ended(child), {code: 0, signal: null, out: 'ends\n', err: ''})
})

test('a publish that no broker answers is given up in time', async (t) => {
  // Accepts, and says nothing.
  const server = net.createServer(() => {}).listen(0, '127.0.0.1')
  await once(server, 'listening')
  t.after(() => server.close())
  const child = start(t, `
    const client = await connect('mq://127.0.0.1:${server.address().port}', {publishTimeout: 50})
    await client.publish('t', 'x').catch((error) => console.log(error.code, error.retry))
    await client.publish('t', 'x').catch((error) => console.log(error.code, error.retry))
    client.publish('t', 'x').catch((error) => console.log(error.code))
    await client.close({timeout: 10}).catch((error) => console.log(error.code))
  `)
  child.stdout.once('end', () => server.close())
  const {code, out, err} = await ended(child)
  assert.deepEqual([code, err], [0, ''])
  const lines = out.trim().split('\n')
  // Nothing was sent.
  assert.deepEqual(lines.slice(0, 2), ['TIMEOUT true', 'TIMEOUT true'])
  assert.deepEqual(lines.slice(2), ['TIMEOUT', 'TIMEOUT'])
})

test('an exception in a loop ends the process as any other does, with a stack of the caller', async (t) => {
  const child = start(t, `
    const client = await connect('mq:memory')
    await client.publish('t', 'x')
    for await (const message of client.subscribe('t', 'c')) throw new RangeError('by this test')
  `)
  const {code, signal, err} = await ended(child)
  assert.deepEqual([code, signal], [1, null])
  assert.match(err, /RangeError: by this test\n {4}at \[eval\]/)
})

test('process.exit stops a broker in this process cleanly', async (t) => {
  const folder = fs.mkdtempSync(path.join(os.tmpdir(), 'libmq-node-'))
  t.after(() => fs.rmSync(folder, {recursive: true}))
  const data = JSON.stringify(folder)
  const first = start(t, `
    const client = await connect(${data})
    const subscription = client.subscribe('t', 'c')
    await client.publish('t', ['finished', 'left'])
    const {value: message} = await subscription.next()
    message.finish()
    process.exit(3)
  `)
  assert.deepEqual(await ended(first), {code: 3, signal: null, out: '', err: ''})
  const second = start(t, `
    const client = await connect(${data})
    const {value: message} = await client.subscribe('t', 'c').next()
    console.log(message.text())
    process.exit()
  `)
  assert.deepEqual(await ended(second), {code: 0, signal: null, out: 'left\n', err: ''})
})

test('SIGTERM drains a worker, and its process ends by itself', async (t) => {
  const folder = fs.mkdtempSync(path.join(os.tmpdir(), 'libmq-node-'))
  t.after(() => fs.rmSync(folder, {recursive: true}))
  const data = JSON.stringify(folder)
  const worker = start(t, `
    const client = await connect(${data})
    await client.publish('t', ['one', 'two', 'three'])
    let go
    process.on('SIGTERM', () => setImmediate(() => go()))
    const handler = (message) => {
      console.log(message.text())
      return new Promise((resolve) => (go = resolve))
    }
    console.log(await run(handler, {client, topic: 't', channel: 'c', concurrency: 1}))
    await client.close()
  `)
  const lines = readline.createInterface({input: worker.stdout})[Symbol.asyncIterator]()
  assert.equal((await lines.next()).value, 'one')
  worker.kill('SIGTERM')
  const exit = once(worker, 'exit')
  assert.match((await lines.next()).value, /finished: 1, requeued: 0/)
  assert.deepEqual(await exit, [0, null])
})
