// Each line with the word of this file's name is an error of types.
import { connect, run, Client } from 'libmq'

const client = await connect('mq:memory')
await connect('mq:memory', { timeout: 1 }) // Wrong: no such setting.
await client.publish('t', { pizza: 1 }) // Wrong: no body.
const receipt: { offset: bigint } = await client.publish('t', 'x') // Wrong: it may have none.
client.subscribe('t') // Wrong: no channel.
new Client() // Wrong: connect makes it.
await run(() => {}, { topic: 't', channel: 'c' }) // Wrong: neither url nor client.
