// The same from CommonJS. It is compiled, not run.
import mq = require('libmq')
import nsq = require('libmq/nsq')
import testing = require('libmq/testing')

async function main(): Promise<void> {
  const client: mq.Client = await mq.connect('mq:memory')
  for await (const message of client.subscribe('t', 'c')) message.finish()
  const reader: nsq.Reader = new nsq.Reader('t', 'c', { nsqdTCPAddresses: ['a:1'] })
  reader.on('message', (message: nsq.Message) => message.finish())
  const test: testing.TestClient = await testing.connect()
  await test.advance(1)
}
main().catch((error: unknown) => console.error(error instanceof mq.MqError && error.code))
