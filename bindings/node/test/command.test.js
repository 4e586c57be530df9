'use strict'
// The command `mq` of the package.

const assert = require('node:assert/strict')
const {spawnSync} = require('node:child_process')
const path = require('node:path')
const {test} = require('node:test')

const {connect} = require('libmq')
const {version} = require('libmq/package.json')

const COMMAND = path.join(require.resolve('libmq/package.json'), '..', 'bin', 'mq.js')

test('mq answers, and fails, as the program does', () => {
  const run = (...args) => spawnSync(process.execPath, [COMMAND, ...args], {encoding: 'utf8'})
  const shown = run('--version')
  assert.equal(shown.status, 0, shown.stderr)
  assert.ok(shown.stdout.includes(version), shown.stdout)
  const wrong = run('swim')
  assert.notEqual(wrong.status, 0)
  assert.match(wrong.stderr, /swim/)
})

test('mq serve is a broker, which SIGTERM stops', async (t) => {
  process.env.MQ_BIN = COMMAND
  const {startBroker} = require(path.join(process.env.MQ_ROOT, 'tests', 'node', 'broker.js'))
  const broker = await startBroker(t)
  const client = await connect(`mq://${broker.address}`)
  broker.clients.push({close: () => client.close()})
  await client.publish('t', 'hello')
  const {value: message} = await client.subscribe('t', 'c').next()
  assert.equal(message.text(), 'hello')
  message.finish()
})
