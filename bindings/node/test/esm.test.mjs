import assert from 'node:assert/strict'
import { createRequire } from 'node:module'
import { test } from 'node:test'

import * as all from 'libmq'
import * as testing from 'libmq/testing'

test('ES modules and CommonJS have the same exports', () => {
  const require = createRequire(import.meta.url)
  assert.deepEqual({ ...all }, { ...require('libmq') })
  assert.deepEqual({ ...testing }, { ...require('libmq/testing') })
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
