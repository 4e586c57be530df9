'use strict'
// A queue in this process: jobs in a folder, done by a worker beside whatever else the program does. Ends when all
// lines of standard input are done; run it again after a crash, and it goes on with what was left.
//
//     npm install libmq
//     printf 'one\ntwo\n' | node embedded.js ./jobs

const readline = require('node:readline')

const {connect, run} = require('libmq')

async function main() {
  const client = await connect(`mq:${process.argv[2] ?? './jobs'}`)
  await client.createChannel('jobs', 'worker')

  const done = new AbortController()
  const worker = run(async (message) => console.log(`done: ${message.text()}`), {
    client,
    topic: 'jobs',
    channel: 'worker',
    concurrency: 4,
    signal: done.signal
  })

  for await (const line of readline.createInterface({input: process.stdin})) {
    // Returns once the job is stored: it is done then even if this process dies before.
    if (line !== '') await client.publish('jobs', line)
  }

  const isDone = async () => {
    const {topics} = await client.stats()
    const {depth, inFlight, deferred} = topics[0].channels[0]
    return depth + inFlight + deferred === 0
  }
  while (!(await isDone())) await new Promise((resolve) => setTimeout(resolve, 20))
  done.abort()
  await worker
  await client.close()
}

main()
