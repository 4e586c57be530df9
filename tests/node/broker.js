'use strict'
// A real broker for a test: the binary that MQ_BIN names, on a free port and a folder of its own.

const {spawn, execFileSync} = require('node:child_process')
const {once} = require('node:events')
const fs = require('node:fs')
const http = require('node:http')
const os = require('node:os')
const path = require('node:path')
const readline = require('node:readline')
const {setImmediate} = require('node:timers/promises')

class Broker {
  constructor(flags) {
    this.flags = flags
    this.folder = fs.mkdtempSync(path.join(os.tmpdir(), 'mq-node-'))
    this.port = 0
    // Closed before the broker stops.
    this.clients = []
  }

  /** Starts it, again if it ran before: on the same port and folder. */
  async run() {
    const data = path.join(this.folder, 'data')
    const args = ['serve', '-tcp-address', `127.0.0.1:${this.port}`, '-http-address', '127.0.0.1:0', '-https-address=', '-grpc-address=', '-data-path', data, ...this.flags]
    this.process = spawn(process.env.MQ_BIN, args, {stdio: ['ignore', 'pipe', 'inherit']})
    this.ended = once(this.process, 'exit')
    const lines = readline.createInterface({input: this.process.stdout})
    this.http = new Promise((resolve) => {
      lines.on('line', (line) => line.startsWith('http ') && resolve(line.split(' ')[1]))
    })
    const ready = once(lines, 'line')
    const [line] = await Promise.race([ready, this.ended.then(([code]) => [`it ended with ${code}`])])
    if (!line.startsWith('tcp ')) throw new Error(`the broker is not ready: ${line}`)
    this.port = Number(line.split(':').pop())
  }

  /** Asks for a change over HTTP. */
  async post(path_) {
    const answer = await fetch(`http://${await this.http}${path_}`, {method: 'POST'})
    if (answer.status !== 200) throw new Error(`${path_}: ${answer.status} ${await answer.text()}`)
  }

  get address() {
    return `127.0.0.1:${this.port}`
  }

  /** kill -9, and gone. */
  async kill() {
    this.process.kill('SIGKILL')
    await this.ended
  }

  /** Makes it stand still, until `thaw`. A signal alone lets its threads run on for a moment: this waits until none does. */
  async freeze() {
    this.process.kill('SIGSTOP')
    const tasks = `/proc/${this.process.pid}/task`
    const stands = (task) => / T \d/.test(fs.readFileSync(path.join(tasks, task, 'stat'), 'latin1').split(')').pop())
    while (!fs.readdirSync(tasks).every(stands)) await setImmediate()
  }

  thaw() {
    this.process.kill('SIGCONT')
  }

  /** SIGTERM must be a clean stop. */
  async stop() {
    for (const client of this.clients) client.close()
    this.process.kill('SIGTERM')
    const [code] = await this.ended
    fs.rmSync(this.folder, {recursive: true})
    if (code !== 0) throw new Error(`SIGTERM is a clean stop, not ${code}`)
  }
}

/** A running broker that ends with the test `t`. */
async function startBroker(t, flags = []) {
  const broker = new Broker(flags)
  await broker.run()
  t.after(() => broker.stop())
  return broker
}

/** A lookup server on free ports that ends with the test `t`. */
async function startLookup(t) {
  const args = ['lookup', '-grpc-address=', '-tcp-address', '127.0.0.1:0', '-http-address', '127.0.0.1:0']
  const process_ = spawn(process.env.MQ_BIN, args, {stdio: ['ignore', 'pipe', 'inherit']})
  const ended = once(process_, 'exit')
  t.after(async () => {
    process_.kill('SIGTERM')
    const [code] = await ended
    if (code !== 0) throw new Error(`SIGTERM is a clean stop, not ${code}`)
  })
  const addresses = []
  for await (const line of readline.createInterface({input: process_.stdout})) {
    addresses.push(line.split(' ')[1])
    if (addresses.length === 2) break
  }
  return {tcp: addresses[0], http: addresses[1]}
}

/** A key and a certificate for 127.0.0.1 in `folder`, its own root, or null where no openssl is. */
function certificate(folder) {
  const [key, cert] = ['key.pem', 'cert.pem'].map((name) => path.join(folder, name))
  const args = ['req', '-x509', '-newkey', 'rsa:2048', '-nodes', '-days', '2', '-subj', '/CN=127.0.0.1']
  args.push('-addext', 'subjectAltName=IP:127.0.0.1', '-addext', 'basicConstraints=critical,CA:FALSE')
  try {
    execFileSync('openssl', [...args, '-keyout', key, '-out', cert], {stdio: 'ignore'})
  } catch {
    return null
  }
  return {key, cert}
}

/** Permits everything to who has the secret "hush", and keeps what it was asked. Ends with the test `t`. */
async function startAuthServer(t) {
  const asked = []
  const server = http.createServer((request, response) => {
    const query = Object.fromEntries(new URL(request.url, 'http://localhost').searchParams)
    asked.push(query)
    const everything = {topic: '.*', channels: ['.*'], permissions: ['subscribe', 'publish']}
    const authorizations = query.secret === 'hush' ? [everything] : []
    response.end(JSON.stringify({ttl: 60, identity: 'it', authorizations}))
  })
  server.listen(0, '127.0.0.1')
  await once(server, 'listening')
  t.after(() => server.close())
  return {address: `127.0.0.1:${server.address().port}`, asked}
}

module.exports = {startBroker, startLookup, startAuthServer, certificate}
