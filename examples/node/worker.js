'use strict'
// Prints the messages of a channel, one a line, and finishes them. Ends cleanly on SIGINT and SIGTERM.

const {setTimeout: sleep} = require('node:timers/promises')

const grpc = require('@grpc/grpc-js')
const {SubscribeService, parseArguments, connect, metadata, FIRST_PAUSE_MS, LONGEST_PAUSE_MS} = require('./connection')

// Messages that we may have unfinished at a time. Finishing some makes room for others: credit is given once.
const CREDIT = 256
const RETRY_AFTER_MS = 500

/** Your work: what throws is delivered again later. A message may come more than once in any case. */
async function handle(message) {
  if (message.body.equals(Buffer.from('fail-once')) && message.attempts === 1) {
    throw new Error('this one fails at its first attempt')
  }
  process.stdout.write(Buffer.concat([message.body, Buffer.from('\n')]))
}

class Worker {
  constructor({topic, channel, count}) {
    this.open = {topic, channel, client_name: 'example worker (Node)'}
    this.left = Number(count)
    this.stopping = this.working = false
    this.pause = FIRST_PAUSE_MS
  }

  /** Works over one stream until it ends. */
  async run(client) {
    const stream = (this.stream = client.subscribe(metadata()))
    stream.write({open: this.open, credit: {messages: CREDIT}})
    for await (const {opened, batch, failures} of stream) {
      if (opened) this.pause = FIRST_PAUSE_MS
      if (batch && !this.stopping) await this.work(batch.messages)
      // Their timeout had passed: they are delivered again, here or elsewhere.
      if (failures) console.error(`${failures.failures.length} came too late`)
    }
  }

  /** Handles messages side by side, and tells the broker of all at once. */
  async work(messages) {
    this.working = true
    if (this.left > 0) messages = messages.slice(0, this.left)
    const outcomes = await Promise.allSettled(messages.map(handle))
    const [finish, failed] = [[], []]
    for (const [n, {reason}] of outcomes.entries()) {
      if (reason) console.error(`to be tried again: ${reason.message}`)
      ;(reason ? failed : finish).push(messages[n].id)
    }
    const requeue = failed.length > 0 ? [{ids: failed, delay_ms: RETRY_AFTER_MS}] : []
    this.stream.write({finish, requeue})
    this.working = false
    if (this.left > 0) {
      this.left -= finish.length
      if (this.left === 0) this.stopping = true
    }
    if (this.stopping) this.stream.end()
  }

  /** Closes our side behind the last acknowledgement: what we have not worked on returns to the channel at once. */
  stop() {
    this.stopping = true
    if (!this.working) this.stream?.end()
  }
}

async function main() {
  const options = parseArguments({channel: {type: 'string'}, count: {type: 'string', default: '0'}})
  const worker = new Worker(options)
  for (const signal of ['SIGINT', 'SIGTERM']) process.on(signal, () => worker.stop())
  const client = connect(SubscribeService, options)
  while (!worker.stopping) {
    try {
      await worker.run(client)
    } catch (error) {
      if (error.code !== grpc.status.UNAVAILABLE) throw error
      console.error(`connecting again: ${error.details}`)
      await sleep(worker.pause)
      worker.pause = Math.min(2 * worker.pause, LONGEST_PAUSE_MS)
    }
  }
  client.close()
}

main().catch((error) => {
  console.error(`worker: ${error.message}`)
  process.exit(1)
})
