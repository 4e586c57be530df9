'use strict'
// CPU time of the client for each message beside nsqjs, in one run and on one broker.
//
//   node bindings/node/bench/compare.js --mq target/dist/mq --nsqjs path/to/node_modules/nsqjs [--messages 200000]
//
// Each figure is of a process of its own (user and system time of the whole process, all its threads, from the first
// message to the last), the best of --rounds. The broker's time is not in it. `cargo xtask bench-node` runs it.

const {spawn, spawnSync} = require('node:child_process')
const fs = require('node:fs')
const os = require('node:os')
const path = require('node:path')
const readline = require('node:readline')
const {parseArgs} = require('node:util')

const BODY = Buffer.alloc(100, 'x')
const BATCH = 100
/** Publishes that wait for their outcome at the same time. */
const WINDOW = 1000

const {values: flags} = parseArgs({
  options: {
    mq: {type: 'string'},
    nsqjs: {type: 'string'},
    package: {type: 'string', default: path.join(__dirname, '..')},
    messages: {type: 'string', default: '100000'},
    rounds: {type: 'string', default: '3'},
    case: {type: 'string'},
    address: {type: 'string'}
  }
})
const messages = Math.floor(Number(flags.messages) / BATCH) * BATCH

/** Prints the CPU time since it was made, in microseconds a message. */
class Clock {
  #began = process.cpuUsage()

  report() {
    const {user, system} = process.cpuUsage(this.#began)
    console.log(((user + system) / messages).toFixed(3))
    process.exit()
  }
}

/** Publishes `messages` by calls of `send` for `many` each, WINDOW at a time. */
function pipeline(send, many) {
  let [clock, sent, stored] = [new Clock(), 0, 0]
  const next = () => {
    sent += many
    send(stored_)
  }
  const stored_ = (error) => {
    if (error) throw error
    stored += many
    if (stored === messages) clock.report()
    else if (sent < messages) next()
  }
  for (let n = 0; n < WINDOW && sent < messages; n++) next()
}

function nsqjsWriter(address, many) {
  const {Writer} = require(flags.nsqjs)
  const [host, port] = address.split(':')
  const writer = new Writer(host, Number(port))
  const bodies = many === 1 ? BODY : Array.from({length: many}, () => BODY)
  writer.on('ready', () => pipeline((stored) => writer.publish('t', bodies, stored), many))
  writer.connect()
}

function reader(module, address, maxInFlight) {
  const {Reader} = require(module)
  let [clock, seen] = [null, 0]
  const one = new Reader('t', 'c', {nsqdTCPAddresses: address, maxInFlight})
  one.on('message', (message) => {
    clock ??= new Clock()
    void message.body
    message.finish()
    if (++seen === messages) setImmediate(() => clock.report())
  })
  one.connect()
}

async function client(address) {
  return await require(flags.package).connect(address.includes(':memory') ? address : `mq://${address}`)
}

/** Publishes singly, WINDOW at a time, as a program does that awaits them in groups. */
async function singles(address) {
  const libmq = await client(address)
  await libmq.publish('t', BODY)
  const clock = new Clock()
  for (let sent = 0; sent < messages; sent += WINDOW) {
    const group = new Array(Math.min(WINDOW, messages - sent))
    for (let n = 0; n < group.length; n++) group[n] = libmq.publish('t', BODY)
    await Promise.all(group)
  }
  clock.report()
}

async function lists(address) {
  const libmq = await client(address)
  const bodies = Array.from({length: BATCH}, () => BODY)
  await libmq.publish('t', BODY)
  pipeline((stored) => libmq.publish('t', bodies).then(() => stored(), stored), BATCH)
}

async function loop(address) {
  const libmq = await client(address)
  let [clock, seen] = [new Clock(), 0]
  for await (const message of libmq.subscribe('t', 'c', {maxInFlight: 200})) {
    void message.body
    message.finish()
    if (++seen === messages) break
  }
  clock.report()
}

async function batches(address) {
  const libmq = await client(address)
  let [clock, seen] = [new Clock(), 0]
  for await (const batch of libmq.subscribe('t', 'c', {maxInFlight: 2000}).batches({max: BATCH})) {
    for (const message of batch) void message.body
    batch.finish()
    seen += batch.length
    if (seen >= messages) break
  }
  clock.report()
}

/** Name, what runs, and whether it consumes what is there. The first of each group is what the others stand beside. */
const CASES = [
  [
    ['nsqjs: publish, 1000 at once', (address) => nsqjsWriter(address, 1), false],
    ['libmq: publish, 1000 at once', singles, false]
  ],
  [
    ['nsqjs: publish, lists of 100', (address) => nsqjsWriter(address, BATCH), false],
    ['libmq: publish, lists of 100', lists, false]
  ],
  [
    ['nsqjs: Reader, finish', (address) => reader(flags.nsqjs, address, 200), true],
    ['libmq/nsq: Reader, finish', (address) => reader(path.join(flags.package, 'nsq.js'), address, 200), true],
    ['libmq: for await, finish', loop, true],
    ['libmq: batches of 100, finish', batches, true]
  ]
]

/** Microseconds of one case on a broker of its own. */
async function measure([name, , consumes]) {
  const folder = fs.mkdtempSync(path.join(os.tmpdir(), 'mq-bench-'))
  const off = ['--http-address=', '--grpc-address=', '--log-level=error']
  const broker = spawn(flags.mq, ['serve', '--tcp-address=127.0.0.1:0', ...off, `--data-path=${folder}`], {stdio: ['ignore', 'pipe', 'inherit']})
  try {
    let address
    for await (const line of readline.createInterface({input: broker.stdout})) {
      address = line.split(' ')[1]
      break
    }
    const run = (which) => {
      const common = ['--nsqjs', flags.nsqjs, '--package', flags.package, '--messages', String(messages)]
      const ended = spawnSync(process.execPath, [__filename, '--case', which, '--address', address, ...common], {encoding: 'utf8'})
      if (ended.status !== 0) throw new Error(`${which}: ${ended.stderr}`)
      return Number(ended.stdout)
    }
    if (consumes) run('libmq: publish, lists of 100')
    return run(name)
  } finally {
    broker.kill('SIGKILL')
    fs.rmSync(folder, {recursive: true})
  }
}

async function main() {
  if (flags.case !== undefined) {
    const [, run] = CASES.flat().find(([name]) => name === flags.case)
    await run(flags.address)
    return
  }
  for (const name of ['mq', 'nsqjs']) if (flags[name] === undefined) throw new Error(`--${name} is missing`)
  console.log(`${''.padEnd(32)}  CPU us a message   of nsqjs's`)
  for (const group of CASES) {
    let peer
    for (const one of group) {
      let best = Infinity
      for (let round = 0; round < Number(flags.rounds); round++) best = Math.min(best, await measure(one))
      peer ??= best
      console.log(`${one[0].padEnd(32)}  ${best.toFixed(2).padStart(16)}   1/${(peer / best).toFixed(1)}`)
    }
  }
}

main().catch((error) => {
  console.error(`compare: ${error.message}`)
  process.exitCode = 1
})
