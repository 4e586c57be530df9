'use strict'
// The context of OpenTelemetry goes along with messages.

const assert = require('node:assert/strict')
const {spawnSync} = require('node:child_process')
const path = require('node:path')
const {test} = require('node:test')

const {connect} = require('libmq')

const PROGRAM = `
const {AsyncLocalStorage} = require('node:async_hooks')
const {context, createContextKey, propagation, ROOT_CONTEXT} = require('@opentelemetry/api')
const {connect, run} = require('libmq')

const storage = new AsyncLocalStorage()
context.setGlobalContextManager({
  active: () => storage.getStore() ?? ROOT_CONTEXT,
  with: (active, work, self, ...args) => storage.run(active, () => work.apply(self, args)),
  bind: (_, target) => target,
  enable() { return this },
  disable() { return this }
})
const KEY = createContextKey('trace')
const at = (trace, work) => context.with(context.active().setValue(KEY, trace), work)

async function main() {
  const client = await connect('mq:memory')
  await client.publish('t', 'before it is registered')
  propagation.setGlobalPropagator({
    inject(active, carrier, setter) {
      if (active.getValue(KEY) !== undefined) setter.set(carrier, 'traceparent', active.getValue(KEY))
    },
    extract: (active, carrier, getter) => active.setValue(KEY, getter.get(carrier, 'traceparent')),
    fields: () => ['traceparent']
  })
  await client.publish('t', 'without')
  await at('00-a', () => client.publish('t', 'plain'))
  await at('00-b', () => client.publish('t', ['list', {body: 'full', headers: {own: 'x'}}], {headers: {common: 'y'}}))
  const [controller, lines] = [new AbortController(), []]
  await run(async (message) => {
    await null
    lines.push(message.text() + ' ' + context.active().getValue(KEY) + ' ' + JSON.stringify(message.headers))
    if (lines.length === 5) controller.abort()
  }, {client, topic: 't', channel: 'c', concurrency: 1, signal: controller.signal, signals: []})
  await client.close()
  const silent = await connect('mq:memory', {traceHeaders: false})
  await at('00-c', () => silent.publish('t', 'x'))
  const {value: message} = await silent.subscribe('t', 'c').next()
  lines.push(Object.keys(message.headers).length)
  await silent.close()
  console.log(lines.join('\\n'))
}
main()
`

test('messages carry the context of OpenTelemetry, and handlers run in it', () => {
  const env = {...process.env, NODE_PATH: process.env.MQ_NODE_TOOLS}
  const {stdout, stderr} = spawnSync(process.execPath, ['-e', PROGRAM], {cwd: __dirname, env, encoding: 'utf8'})
  assert.equal(stderr, '')
  assert.deepEqual(stdout.trim().split('\n'), [
    'before it is registered undefined {}',
    'without undefined {}',
    'plain 00-a {"traceparent":"00-a"}',
    'list 00-b {"traceparent":"00-b","common":"y"}',
    'full 00-b {"traceparent":"00-b","common":"y","own":"x"}',
    '0'
  ])
})

test('a setting of traceHeaders that is none is refused', async () => {
  await assert.rejects(connect('mq:memory', {traceHeaders: 'yes'}), {code: 'INVALID_ARGUMENT'})
})
