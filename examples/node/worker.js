'use strict'
// Prints the messages of a channel, one a line, and finishes them. Ends cleanly on SIGINT and SIGTERM.

const {setTimeout: sleep} = require('node:timers/promises')

const grpc = require('@grpc/grpc-js')
const {SubscribeService, parseArguments, connect, metadata, FIRST_PAUSE_MS, LONGEST_PAUSE_MS} = require('./connection')

// Messages that we work on at the same time. Finishing one makes room for another, so credit is given once.
const CREDIT = '16'
const RETRY_AFTER_MS = 500
// What is at work is extended so many times within its timeout.
const TOUCHES = 3

/** Your work: what throws is delivered again later. A message may come more than once in any case. */
async function handle(message) {
  if (message.body.equals(Buffer.from('fail-once')) && message.attempts === 1) {
    throw new Error('this one fails at its first attempt')
  }
  if (message.body.toString().startsWith('slow')) await sleep(20)
  process.stdout.write(Buffer.concat([message.body, Buffer.from('\n')]))
}

class Worker {
  constructor({topic, channel, credit, count}) {
    // Our client takes messages of any size.
    this.open = {
      topic,
      channel,
      client_name: 'example worker (Node)',
      credit: {messages: Number(credit)},
      max_message_bytes: 0
    }
    this.left = Number(count)
    this.stopping = false
    // The token of the newest delivery of each message that is at work.
    this.working = new Map()
    this.pause = FIRST_PAUSE_MS
  }

  /** Works over one stream until it ends. */
  async run(client) {
    const stream = (this.stream = client.subscribe(metadata()))
    stream.write({open: this.open})
    let touching
    try {
      for await (const {opened, batch, failures} of stream) {
        if (opened) {
          this.pause = FIRST_PAUSE_MS
          const touch = () => this.update({touch: [...this.working.values()]})
          touching = setInterval(touch, Number(opened.msg_timeout_ms) / TOUCHES)
        }
        for (const message of batch?.messages ?? []) this.begin(message)
        // Their timeout had passed: they are delivered again, here or elsewhere.
        if (failures) console.error(`${failures.failures.length} came too late`)
      }
    } finally {
      clearInterval(touching)
    }
  }

  /** Sends a change of the stream. */
  update(changes) {
    if (!this.stream.writableEnded && !this.stream.destroyed) this.stream.write({update: changes})
  }

  /** Works on a message, unless we are on our way out: then nobody looks at it, and it counts as no attempt. */
  begin(message) {
    if (this.stopping) return this.update({release: [message.token]})
    const isAtWork = this.working.has(message.id)
    this.working.set(message.id, message.token)
    if (!isAtWork) this.work(message)
  }

  /** Handles a message and acknowledges it: its newest delivery, since it may have come again meanwhile. */
  async work(message) {
    try {
      await handle(message)
      this.update({finish: [this.working.get(message.id)]})
      if (this.left > 0 && --this.left === 0) this.stop()
    } catch (error) {
      console.error(`to be tried again: ${error.message}`)
      this.update({requeue: [{tokens: [this.working.get(message.id)], delay_ms: RETRY_AFTER_MS}]})
    }
    this.working.delete(message.id)
    this.leave()
  }

  /** Takes no more, and ends behind what is at work. */
  stop() {
    this.stopping = true
    if (this.stream) this.update({credit: {messages: 0}})
    this.leave()
  }

  /** Closes our side once nothing is at work. */
  leave() {
    if (this.stopping && this.working.size === 0) this.stream?.end()
  }
}

async function main() {
  const options = parseArguments({
    channel: {type: 'string'},
    credit: {type: 'string', default: CREDIT},
    count: {type: 'string', default: '0'}
  })
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
