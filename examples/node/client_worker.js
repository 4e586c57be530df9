'use strict'
// A worker: prints each message of a channel. SIGTERM or Ctrl-C ends it once its handlers are done; what it could not
// do after five attempts goes to another topic.
//
//     npm install libmq
//     node client_worker.js mq://127.0.0.1:4150 orders billing

const {connect, run} = require('libmq')

async function main() {
  const [url, topic, channel] = process.argv.slice(2)
  if (channel === undefined) throw new Error('usage: node client_worker.js URL TOPIC CHANNEL')
  const client = await connect(url)

  async function handle(message) {
    const order = message.json()
    console.log(`${order.customer} gets ${order.what}`)
  }

  const summary = await run(handle, {
    client,
    topic,
    channel,
    concurrency: 20,
    maxAttempts: 5,
    requeueDelay: (attempts) => 50 * 2 ** attempts,
    onError: (error, message) => console.error(`attempt ${message.attempts} of ${message.id}: ${error}`),
    giveUp: (message) => client.publish(`${topic}.failed`, message.body)
  })
  console.log(`finished ${summary.finished}, given up ${summary.givenUp}`)
  await client.close()
}

main().catch((error) => {
  console.error(error)
  process.exitCode = 1
})
