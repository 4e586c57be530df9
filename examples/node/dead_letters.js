'use strict'
// A worker that halves numbers. What is no number can't be done however often it is tried: after three attempts it is a
// dead letter, in a topic of its own.
//
//     npm install libmq
//     node dead_letters.js ./data 10 twenty 30

const {connect, run} = require('libmq')

async function main() {
  const [folder, ...numbers] = process.argv.slice(2)
  if (numbers.length === 0) throw new Error('usage: node dead_letters.js FOLDER NUMBER...')
  const client = await connect(`mq:${folder}`)
  await client.createChannel('numbers', 'halver')
  await client.setChannelSettings('numbers', 'halver', {maxAttempts: 3, deadLetterTopic: 'numbers.dead'})
  await client.publish('numbers', numbers)

  const ended = new AbortController()
  let left = numbers.length
  const end = () => {
    left -= 1
    if (left === 0) ended.abort()
  }

  const working = run((message) => {
    const number = Number(message.text())
    // The message is returned then, to come again but for the last attempt.
    if (Number.isNaN(number)) throw new Error(`${message.text()} is no number`)
    console.log(`half of ${number} is ${number / 2}`)
    end()
  }, {
    client,
    topic: 'numbers',
    channel: 'halver',
    signal: ended.signal,
    requeueDelay: 100,
    onError: (error, message) => console.log(`attempt ${message.attempts}: ${error}`)
  })
  const printing = run((letter) => {
    console.log(`dead letter: ${letter.text()}`)
    end()
  }, {client, topic: 'numbers.dead', channel: 'printer', signal: ended.signal})
  await Promise.all([working, printing])
  await client.close()
}

main().catch((error) => {
  console.error(error)
  process.exitCode = 1
})
