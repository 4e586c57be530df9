'use strict'
// The examples of the package, as a reader runs them.

const assert = require('node:assert/strict')
const {spawn} = require('node:child_process')
const {once} = require('node:events')
const fs = require('node:fs')
const os = require('node:os')
const path = require('node:path')
const readline = require('node:readline')
const {text} = require('node:stream/consumers')
const {test} = require('node:test')

const {connect} = require('libmq')
const {startBroker} = require(path.join(process.env.MQ_ROOT, 'tests', 'node', 'broker.js'))

const MODULES = path.join(require.resolve('libmq/package.json'), '..', '..')

/** Starts an example. */
function start(t, name, ...args) {
  const file = path.join(process.env.MQ_ROOT, 'examples', 'node', name)
  const env = {...process.env, NODE_PATH: MODULES}
  const child = spawn(process.execPath, [file, ...args], {env, stdio: ['pipe', 'pipe', 'pipe']})
  t.after(() => child.kill('SIGKILL'))
  child.exited = once(child, 'exit')
  return child
}

test('embedded.js does each line of its input', async (t) => {
  const folder = fs.mkdtempSync(path.join(os.tmpdir(), 'libmq-node-'))
  t.after(() => fs.rmSync(folder, {recursive: true}))
  for (const lines of [['one', 'two'], ['three']]) {
    const child = start(t, 'embedded.js', folder)
    child.stdin.end(lines.map((line) => `${line}\n`).join(''))
    const [[code], out, err] = await Promise.all([child.exited, text(child.stdout), text(child.stderr)])
    assert.deepEqual([code, err], [0, ''])
    assert.deepEqual(out.trim().split('\n').sort(), lines.map((line) => `done: ${line}`).sort())
  }
})

test('dead_letters.js tries three times what is no number', async (t) => {
  const folder = fs.mkdtempSync(path.join(os.tmpdir(), 'libmq-node-'))
  t.after(() => fs.rmSync(folder, {recursive: true}))
  const child = start(t, 'dead_letters.js', folder, '10', 'twenty', '30')
  const [[code], out, err] = await Promise.all([child.exited, text(child.stdout), text(child.stderr)])
  assert.deepEqual([code, err], [0, ''])
  const attempts = [1, 2, 3].map((n) => `attempt ${n}: Error: twenty is no number`)
  assert.deepEqual(out.trim().split('\n').sort(), [...attempts, 'dead letter: twenty', 'half of 10 is 5', 'half of 30 is 15'])
})

test('client_worker.js works, gives up and drains; http_service.js publishes for it', async (t) => {
  const broker = await startBroker(t)
  const url = `mq://${broker.address}`
  const service = start(t, 'http_service.js', url, '0')
  const [line] = await once(readline.createInterface({input: service.stdout}), 'line')
  const port = Number(/\d+$/.exec(line)[0])
  const post = async (topic, body) => (await fetch(`http://127.0.0.1:${port}/${topic}`, {method: 'POST', body})).status
  assert.equal(await post('orders', '{"customer": "Ada", "what": "one pizza"}'), 202)
  assert.equal(await post('orders', 'no JSON'), 202)
  assert.equal(await post('no%20good', 'x'), 400)
  assert.equal((await fetch(`http://127.0.0.1:${port}/orders`)).status, 405)

  const client = await connect(url)
  broker.clients.push({close: () => client.close()})
  const failed = client.subscribe('orders.failed', 'test')
  const worker = start(t, 'client_worker.js', url, 'orders', 'billing')
  const said = text(worker.stdout)
  const complaints = text(worker.stderr)
  const {value: message} = await failed.next()
  assert.equal(message.text(), 'no JSON')
  message.finish()
  worker.kill('SIGTERM')
  service.kill('SIGTERM')
  assert.deepEqual([await worker.exited, await service.exited], [[0, null], [0, null]])
  assert.equal(await said, 'Ada gets one pizza\nfinished 1, given up 1\n')
  assert.equal((await complaints).match(/attempt \d of/g).length, 5)
})
