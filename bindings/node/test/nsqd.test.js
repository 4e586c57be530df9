'use strict'
// NSQ's own server, where it is there: MQ_PEERS is its folder.

const assert = require('node:assert/strict')
const {spawn} = require('node:child_process')
const {once} = require('node:events')
const fs = require('node:fs')
const os = require('node:os')
const path = require('node:path')
const readline = require('node:readline')
const {describe, test} = require('node:test')

const {connect, run} = require('libmq')
const nsq = require('libmq/nsq')

const NSQD = path.join(process.env.MQ_PEERS ?? '', 'nsqd')
const isThere = process.env.MQ_PEERS !== undefined && fs.existsSync(NSQD)

/** nsqd on a folder of its own, which can be killed and run again. */
class Nsqd {
  #folder = fs.mkdtempSync(path.join(os.tmpdir(), 'libmq-nsqd-'))
  port = 0
  // Closed before it ends.
  clients = []

  async run() {
    const flags = ['--http-address=127.0.0.1:0', `--data-path=${this.#folder}`, '--msg-timeout=5s']
    this.process = spawn(NSQD, [`--tcp-address=127.0.0.1:${this.port}`, ...flags], {stdio: ['ignore', 'ignore', 'pipe']})
    for await (const line of readline.createInterface({input: this.process.stderr})) {
      const listening = /TCP: listening on .*:(\d+)/.exec(line)
      if (listening === null) continue
      this.port = Number(listening[1])
      break
    }
    // Else it waits for room in the pipe.
    this.process.stderr.resume()
  }

  async kill() {
    const ended = once(this.process, 'exit')
    this.process.kill('SIGKILL')
    await ended
  }

  async end() {
    await Promise.all(this.clients.map((client) => client.close()))
    await this.kill()
    fs.rmSync(this.#folder, {recursive: true})
  }

  get address() {
    return `127.0.0.1:${this.port}`
  }
}

async function startNsqd(t) {
  const nsqd = new Nsqd()
  await nsqd.run()
  t.after(() => nsqd.end())
  return nsqd
}

describe('nsqd', {skip: !isThere && 'no nsqd: MQ_PEERS is its folder'}, () => {
  test('messages are published, requeued, touched and finished', async (t) => {
    const nsqd = await startNsqd(t)
    const client = await connect(`mq://${nsqd.address}`)
    nsqd.clients.push(client)
    const subscription = client.subscribe('t', 'c', {msgTimeout: null})
    assert.deepEqual(await client.publish('t', 'one'), {offset: undefined, duplicate: false, broker: nsqd.address})
    await client.publish('t', ['two', 'three'])
    await client.publish('t', 'late', {delay: 50})
    const attempts = {}
    for await (const message of subscription) {
      attempts[message.text()] = message.attempts
      message.touch()
      if (message.text() === 'two' && message.attempts === 1) message.requeue({delay: 10})
      else message.finish()
      if (Object.keys(attempts).length === 4 && attempts.two === 2) break
    }
    assert.deepEqual(attempts, {one: 1, two: 2, three: 1, late: 1})
    const unsupported = {code: 'UNSUPPORTED', retry: false}
    await assert.rejects(client.publish('t', 'x', {headers: {a: 'b'}}), unsupported)
    await assert.rejects(client.publish('t', 'x', {id: 'one'}), unsupported)
    // A topic's first channel has what was published before it.
    const other = client.subscribe('u', 'c')
    await Promise.all([client.publish('u', 'x'), other.next()])
    await assert.rejects(other.flush(), unsupported)
  })

  test('a worker and a publisher go on when it was killed', async (t) => {
    const nsqd = await startNsqd(t)
    const client = await connect(`mq://${nsqd.address}`, {maxReconnectDelay: 50, retry: 'at_least_once'})
    nsqd.clients.push(client)
    const controller = new AbortController()
    const seen = new Set()
    const handler = (message) => {
      seen.add(message.text())
      if (seen.has('after')) controller.abort()
    }
    const worker = run(handler, {client, topic: 't', channel: 'c', signal: controller.signal, signals: []})
    await client.publish('t', 'before')
    while (!seen.has('before')) await new Promise(setImmediate)
    await nsqd.kill()
    const published = client.publish('t', 'after')
    await nsqd.run()
    await Promise.all([published, worker])
    assert.deepEqual([...seen], ['before', 'after'])
  })

  test("a program written for nsqjs has the server's own timeout", async (t) => {
    const nsqd = await startNsqd(t)
    const writer = new nsq.Writer('127.0.0.1', nsqd.port)
    const reader = new nsq.Reader('t', 'c', {nsqdTCPAddresses: nsqd.address})
    nsqd.clients.push(writer, reader)
    writer.connect()
    await writer.publish('t', [{pizza: 1}, 'two'])
    reader.connect()
    const [message] = await once(reader, 'message')
    assert.deepEqual([message.json(), message.msgTimeout], [{pizza: 1}, 5000])
    message.finish()
    const [second] = await once(reader, 'message')
    assert.equal(second.body.toString(), 'two')
    second.finish()
  })
})
