import assert from 'node:assert/strict'
import { createRequire } from 'node:module'
import { test } from 'node:test'

import libmq, * as all from 'libmq'

test('ES modules and CommonJS have the same exports', () => {
  const required = createRequire(import.meta.url)('libmq')
  assert.equal(libmq, required)
  const { default: _, ...named } = all
  assert.deepEqual({ ...named }, { ...required })
})

test('a program from the first page runs', async () => {
  const client = await all.connect('mq:memory')
  await client.publish('orders', 'one pizza')
  for await (const message of client.subscribe('orders', 'billing')) {
    assert.equal(message.text(), 'one pizza')
    message.finish()
    break
  }
  await client.close()
})
