'use strict'
// The package under Bun, where npm has it for this platform.

const assert = require('node:assert/strict')
const {spawnSync} = require('node:child_process')
const fs = require('node:fs')
const path = require('node:path')
const {test} = require('node:test')

const BUN = path.join(process.env.MQ_NODE_TOOLS, '.bin', 'bun')

const PROGRAM = `
import { connect, run } from 'libmq'
import nsq from 'libmq/nsq'

const client = await connect('mq:memory')
console.log((await client.publish('t', ['one', 'two'])).length)
for await (const message of client.subscribe('t', 'c')) {
  console.log(message.text(), message.attempts)
  message.finish()
  if (message.text() === 'two') break
}
await client.publish('t', 'three')
const controller = new AbortController()
const summary = await run(async (message) => {
  console.log(message.text())
  controller.abort()
}, { client, topic: 't', channel: 'c', signal: controller.signal, signals: [] })
console.log(summary.finished)
const { tcp } = await client.serve({ tcpAddress: '127.0.0.1:0', httpAddress: '', grpcAddress: '' })
const writer = new nsq.Writer('127.0.0.1', Number(tcp.split(':')[1]))
writer.connect()
await writer.publish('t', 'four')
await writer.close()
const { value: message } = await client.subscribe('t', 'c').next()
console.log(message.text())
message.finish()
await client.publish('bad name', 'x').catch((error) => console.log(error.code))
await client.close()
`

test('a program runs under Bun, and ends by itself', (t) => {
  if (!fs.existsSync(BUN) || spawnSync(BUN, ['--version']).status !== 0) {
    t.skip('npm has no Bun for this platform')
    return
  }
  const file = path.join(__dirname, 'bun_program.mjs')
  fs.writeFileSync(file, PROGRAM)
  t.after(() => fs.rmSync(file))
  const {status, stdout, stderr} = spawnSync(BUN, [file], {encoding: 'utf8', timeout: 60_000})
  assert.deepEqual([status, stderr], [0, ''])
  assert.deepEqual(stdout.trim().split('\n'), ['2', 'one 1', 'two 1', 'three', '1', 'four', 'INVALID_NAME'])
})
