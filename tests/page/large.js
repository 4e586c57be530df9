'use strict'
// A benchmark of the page of a large fleet: `MQ_BIN=... node large.js [SECONDS]`. Prints how long each page takes with
// 200 nodes and 10,000 topics, and what share of a processor `mq admin` and a broker use while nobody looks, over SECONDS
// (60). The nodes are answers of one real broker with the names of topics changed, served by a process of its own.

const {fork} = require('node:child_process')
const {once} = require('node:events')
const fs = require('node:fs')
const net = require('node:net')
const os = require('node:os')
const path = require('node:path')
const {Server} = require('./fleet.js')

const NODES = 200
const TOPICS = 10_000
/** Nodes that have each topic. */
const EACH = 4
const ON_NODE = (TOPICS * EACH) / NODES
/** Nodes after which the same topics come again. */
const ROUND = NODES / EACH
/** Ticks a second of `/proc/PID/stat`. */
const HZ = 100
const SECONDS = Number(process.argv[2] ?? 60)

const RECORDED = ['/stats', '/info', '/history', '/metrics', '/drain']
const nameOf = (topic) => `topic-${String(topic).padStart(5, '0')}`
const wait = (seconds) => new Promise((resolve) => setTimeout(resolve, seconds * 1000))
const flags = ['-tcp-address', '127.0.0.1:0', '-http-address', '127.0.0.1:0', '-https-address=', '-grpc-address=']

/** A broker with so many topics, one channel and one message each. */
async function broker(folder, topics) {
  const server = await Server.start(['serve', ...flags, '-data-path', folder], ['tcp', 'http'])
  for (let topic = 0; topic < topics; topic += 1) {
    await server.ask('POST', `/channel/create?topic=${nameOf(topic)}&channel=work`).catch(() => {})
    await server.ask('POST', `/pub?topic=${nameOf(topic)}`, 'x')
    await server.ask('POST', `/channel/create?topic=${nameOf(topic)}&channel=work`)
  }
  return server
}

/** What a broker with the topics of one node answers, once its history has two steps. */
async function record(folder) {
  const server = await broker(path.join(folder, 'one'), ON_NODE)
  await wait(25)
  const answers = {}
  for (const target of RECORDED) {
    const query = {'/stats': '?format=json&include_clients=false&include_mem=false', '/metrics': '?topics=false'}[target] ?? ''
    answers[target] = await (await fetch(`http://${server.http}${target}${query}`)).text()
  }
  await server.stop()
  return answers
}

/** Serves the answers as 200 nodes, in this process: sends their addresses, and how many requests there were on demand. */
function serve(recorded) {
  let requests = 0
  const nodes = Array.from({length: NODES}, (_, node) => {
    const first = (node % ROUND) * ON_NODE
    const renamed = (text) => text.replaceAll(/topic-(\d{5})/g, (_, at) => nameOf(first + Number(at)))
    const answers = Object.fromEntries(
      Object.entries(recorded).map(([target, text]) => {
        const body = Buffer.from(renamed(text))
        const head = `HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: ${body.length}\r\n\r\n`
        return [target, Buffer.concat([Buffer.from(head), body])]
      }),
    )
    const none = Buffer.from('HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\n\r\n')
    const server = net.createServer({noDelay: true}, (socket) => {
      let request = ''
      socket.on('error', () => {})
      socket.on('data', (piece) => {
        request += piece
        for (let end = request.indexOf('\r\n\r\n'); end >= 0; end = request.indexOf('\r\n\r\n')) {
          const target = request.slice(0, end).split(' ', 2)[1].split('?')[0]
          request = request.slice(end + 4)
          requests += 1
          socket.write(answers[target] ?? none)
        }
      })
    })
    return new Promise((resolve) => server.listen(0, '127.0.0.1', () => resolve(`127.0.0.1:${server.address().port}`)))
  })
  process.on('message', () => process.send(requests))
  return Promise.all(nodes)
}

/** Seconds of processor that a process has used. */
function used({pid}) {
  const fields = fs.readFileSync(`/proc/${pid}/stat`, 'utf8').split(') ')[1].split(' ')
  return (Number(fields[11]) + Number(fields[12])) / HZ
}

const resident = ({pid}) => `${(Number(fs.readFileSync(`/proc/${pid}/statm`, 'utf8').split(' ')[1]) * 4096) >> 20} MiB`

/** Asks for a page of data, and says how long that took. */
async function timed(address, target) {
  const began = performance.now()
  const answer = await fetch(address + target)
  const text = await answer.text()
  if (!answer.ok) throw new Error(`${target}: ${answer.status} ${text.slice(0, 200)}`)
  return {took: performance.now() - began, bytes: text.length, value: JSON.parse(text)}
}

const line = (...parts) => console.log(parts.join('\t'))
const ms = (took) => `${took.toFixed(1)} ms`

/** What is measured while nobody looks begins once the last page has been read to its end. */
async function idle(what, server) {
  for (let last = 0; used(server.process) - last > 0.1; ) {
    last = used(server.process)
    await wait(5)
  }
  const before = used(server.process)
  await wait(SECONDS)
  const share = ((used(server.process) - before) / SECONDS) * 100
  line(what, `${share.toFixed(2)} % of one processor over ${SECONDS} s`, resident(server.process))
}

async function ofFleet(folder) {
  const recorded = path.join(folder, 'recorded.json')
  fs.writeFileSync(recorded, JSON.stringify(await record(folder)))
  const fakes = fork(__filename, ['serve', recorded])
  const [nodes] = await once(fakes, 'message')
  const requests = async () => {
    fakes.send('count')
    return (await once(fakes, 'message'))[0]
  }
  const named = nodes.flatMap((node) => ['--nsqd-http-address', node])
  for (let round = 0; round < 3; round += 1) {
    const admin = await Server.start(['admin', '--http-address', '127.0.0.1:0', ...named], ['http'])
    const address = `http://${admin.http}/data/`
    await fetch(`http://${admin.http}/`)
    const [before, asked] = [used(admin.process), await requests()]
    const first = await timed(address, 'overview?partial=1')
    let reading = first
    const began = performance.now()
    while (reading.value.reading) reading = await timed(address, 'overview?partial=1')
    line('first answer', ms(first.took), `all nodes after ${ms(first.took + performance.now() - began)}`)
    line('first read', `${(used(admin.process) - before).toFixed(2)} s of processor`, `${(await requests()) - asked} requests`)
    if (round < 2) {
      await admin.stop()
      continue
    }
    const pages = [
      'overview',
      'topics?per_page=50',
      'topics?search=topic-0777&sort=name',
      'topics?sort=depth&page=200',
      'topic?topic=topic-00777',
      'channel?topic=topic-00777&channel=work',
      'history?topic=topic-00777',
      'history',
      'nodes',
      `node?node=${nodes[7]}`,
      'lookup',
    ]
    // As people come: the numbers known are some seconds old, and the next are being read.
    for (const target of pages) {
      await wait(3)
      const stale = await timed(address, target)
      const again = await timed(address, target)
      line(target, ms(stale.took), `at once again ${ms(again.took)}`, `${stale.bytes >> 10} KiB`)
    }
    await wait(20)
    const back = await timed(address, 'overview?partial=1')
    line('somebody comes back after 20 s', ms(back.took))
    await wait(5)
    const then = await requests()
    await idle('mq admin, nobody looks', admin)
    line('requests meanwhile', (await requests()) - then)
    await admin.stop()
  }
  fakes.kill()
}

async function ofBroker(folder) {
  const server = await broker(path.join(folder, 'many'), TOPICS)
  const address = `http://${server.http}/admin/data/`
  await wait(15)
  for (const target of ['overview?partial=1', 'topics?per_page=50', 'topics?search=topic-0777&sort=name', 'nodes', 'topic?topic=topic-00777']) {
    const first = await timed(address, target)
    await wait(3)
    line(`a broker: ${target}`, ms(first.took), `3 s later ${ms((await timed(address, target)).took)}`)
  }
  await wait(5)
  await idle('a broker with 10,000 topics, nobody looks', server)
  await server.stop()
}

async function main() {
  const folder = fs.mkdtempSync(path.join(os.tmpdir(), 'mq-page-'))
  try {
    await ofFleet(folder)
    await ofBroker(folder)
  } finally {
    fs.rmSync(folder, {recursive: true, force: true})
  }
}

if (process.argv[2] === 'serve') serve(JSON.parse(fs.readFileSync(process.argv[3], 'utf8'))).then((nodes) => process.send(nodes))
else main()
