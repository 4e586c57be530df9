'use strict'
// Publishes each line of standard input as a message, and ends when the broker has stored all of them.

const {randomUUID} = require('node:crypto')
const readline = require('node:readline')
const {setTimeout: sleep} = require('node:timers/promises')

const grpc = require('@grpc/grpc-js')
const {PublishService, parseArguments, connect, metadata, FIRST_PAUSE_MS, LONGEST_PAUSE_MS} = require('./connection')

const BATCH_MESSAGES = 100
const BATCH_BYTES = 64 * 1024
// How long to go on without a single answer.
const PATIENCE_MS = 30_000

/** Lines of standard input, as batches. */
async function* batches(topic) {
  const run = randomUUID()
  let [correlation, count, size, messages] = [0, 0, 0, []]
  for await (const line of readline.createInterface({input: process.stdin})) {
    const body = Buffer.from(line)
    if (body.length === 0) continue // A message has at least one byte.
    // A message that is sent again has the same id again, and is stored once.
    const dedup_id = `${run}-${count++}`
    messages.push({body, dedup_id, headers: [{name: 'content-type', value: Buffer.from('text/plain')}]})
    size += body.length
    if (messages.length === BATCH_MESSAGES || size >= BATCH_BYTES) {
      yield {correlation: correlation++, topic, messages}
      ;[size, messages] = [0, []]
    }
  }
  if (messages.length > 0) yield {correlation, topic, messages}
}

/** How many of our batches may be unanswered. */
function ahead(window) {
  const limits = [window.batches, window.messages / BATCH_MESSAGES, Number(window.bytes) / BATCH_BYTES]
  return Math.max(1, Math.floor(Math.min(...limits)))
}

/** Publishes over one stream until everything is answered; what is not stays in `unanswered`. */
async function publish(client, coming, unanswered, progress) {
  const stream = client.publishStream(metadata())
  // Errors come out of `read` too.
  stream.on('error', () => {})
  const responses = stream[Symbol.asyncIterator]()
  const read = async () => (await responses.next()).value
  try {
    const limit = ahead((await read()).window)
    for (const batch of unanswered.values()) stream.write(batch)
    let more = true
    while (more || unanswered.size > 0) {
      while (more && unanswered.size < limit) {
        const {value: batch} = await coming.next()
        more = batch !== undefined
        if (!more) break
          // As it comes back.
        unanswered.set(String(batch.correlation), batch)
        stream.write(batch)
      }
      if (unanswered.size === 0) break
      for (const {correlation, failure} of (await read()).results.results) {
        if (failure) throw Object.assign(new Error(failure.field ? `${failure.field}: ${failure.message}` : failure.message), {failure})
        progress.stored += unanswered.get(correlation).messages.length
        progress.at = Date.now()
        progress.pause = FIRST_PAUSE_MS
        unanswered.delete(correlation)
      }
    }
    stream.end()
  } finally {
    stream.cancel()
  }
}

/** Milliseconds to wait before trying again after `error`; 0 if that can't help. */
function pauseAfter(error, progress) {
  if (Date.now() - progress.at > PATIENCE_MS) return 0
  if (error.failure) return Number(error.failure.retry_after_ms)
  if (error.code !== grpc.status.UNAVAILABLE) return 0
  const pause = progress.pause
  progress.pause = Math.min(2 * pause, LONGEST_PAUSE_MS)
  return pause
}

async function main() {
  const options = parseArguments({})
  const client = connect(PublishService, options)
  const [coming, unanswered] = [batches(options.topic), new Map()]
  const progress = {stored: 0, at: Date.now(), pause: FIRST_PAUSE_MS}
  for (;;) {
    try {
      await publish(client, coming, unanswered, progress)
      break
    } catch (error) {
      const pause = pauseAfter(error, progress)
      if (!pause) throw new Error(`${progress.stored} messages are stored, then: ${error.details ?? error.message}`)
      await sleep(pause)
    }
  }
  client.close()
  console.error(`published ${progress.stored} messages`)
}

main().catch((error) => {
  console.error(`publisher: ${error.message}`)
  process.exit(1)
})
