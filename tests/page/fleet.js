'use strict'
// Real brokers and a lookup server for a test: the binary that MQ_BIN names, on free ports and in folders of their own.

const {spawn} = require('node:child_process')
const {once} = require('node:events')
const fs = require('node:fs')
const net = require('node:net')
const os = require('node:os')
const path = require('node:path')
const readline = require('node:readline')

/** Types of frames of NSQ's protocol. */
const [RESPONSE, ERROR, MESSAGE] = [0, 1, 2]

/** A process that says its addresses when it is ready, a line each: `tcp 127.0.0.1:4150`. */
class Server {
  /** Starts it, and waits for its addresses of these kinds. */
  static async start(args, kinds) {
    const server = new Server()
    server.process = spawn(process.env.MQ_BIN, args, {stdio: ['ignore', 'pipe', 'ignore']})
    server.ended = once(server.process, 'exit')
    for await (const line of readline.createInterface({input: server.process.stdout})) {
      const [kind, address] = line.split(' ')
      server[kind] = address
      if (kinds.every((each) => server[each])) return server
    }
    throw new Error(`mq ${args.join(' ')} ended before it was ready`)
  }

  async stop(signal = 'SIGTERM') {
    this.process.kill(signal)
    await this.ended
  }

  /** The answer to a request, which has to be a good one. */
  async ask(method, path_, body) {
    const answer = await fetch(`http://${this.http}${path_}`, {method, body, headers: this.headers})
    const text = await answer.text()
    if (!answer.ok) throw new Error(`${method} ${path_}: ${answer.status} ${text}`)
    return text.startsWith('{') ? JSON.parse(text) : text
  }
}

/** A lookup server and `count` brokers that are registered there. */
async function startFleet(count, flags = []) {
  const local = ['-tcp-address', '127.0.0.1:0', '-http-address', '127.0.0.1:0', '-grpc-address=']
  const lookup = await Server.start(['lookup', ...local], ['tcp', 'http'])
  const folder = fs.mkdtempSync(path.join(os.tmpdir(), 'mq-page-'))
  const brokers = []
  for (let at = 0; at < count; at += 1) {
    const data = path.join(folder, String(at))
    const own = ['-https-address=', '-data-path', data, '-broadcast-address', '127.0.0.1', '-lookupd-tcp-address', lookup.tcp]
    brokers.push(await Server.start(['serve', ...local, ...own, ...flags], ['tcp', 'http']))
  }
  const stop = async () => {
    for (const server of [...brokers, lookup]) await server.stop()
    fs.rmSync(folder, {recursive: true, force: true})
  }
  return {lookup, brokers, folder, stop}
}

/** A consumer over NSQ's protocol: it finishes what it gets, or holds it. */
class Consumer {
  constructor(broker, topic, channel, {credit = 25, holds = false} = {}) {
    const [host, port] = broker.tcp.split(':')
    this.socket = net.connect(Number(port), host)
    this.socket.on('error', () => {})
    this.received = 0
    const identity = JSON.stringify({client_id: 'worker', hostname: 'worker.example', user_agent: 'page-test/1'})
    const length = Buffer.alloc(4)
    length.writeUInt32BE(identity.length)
    this.socket.write(Buffer.concat([Buffer.from('  V2IDENTIFY\n'), length, Buffer.from(identity)]))
    this.socket.write(`SUB ${topic} ${channel}\nRDY ${credit}\n`)
    let rest = Buffer.alloc(0)
    this.socket.on('data', (bytes) => {
      rest = Buffer.concat([rest, bytes])
      while (rest.length >= 4 && rest.length >= 4 + rest.readUInt32BE(0)) {
        const end = 4 + rest.readUInt32BE(0)
        this.take(rest.readUInt32BE(4), rest.subarray(8, end), holds)
        rest = rest.subarray(end)
      }
    })
  }

  take(type, body, holds) {
    if (type === RESPONSE && body.toString() === '_heartbeat_') this.socket.write('NOP\n')
    if (type === ERROR) throw new Error(`the broker answers ${body}`)
    if (type !== MESSAGE) return
    this.received += 1
    if (!holds) this.socket.write(`FIN ${body.subarray(10, 26)}\n`)
  }

  close() {
    this.socket.destroy()
  }
}

module.exports = {Consumer, Server, startFleet}
