'use strict'
// CPU time of the client for each message beside nsqjs, in one run and on one broker; then messages a second of a broker
// in the process, and the time that loading takes.
//
//   node bindings/node/bench/compare.js --mq target/dist/mq --nsqjs path/to/node_modules/nsqjs [--messages 1000000]
//
// Each figure is of a process of its own (user and system time of the whole process, all its threads, from the first
// message to the last), the best of --rounds. The broker's time is not in it. `cargo xtask bench node` runs it.

const {spawn, spawnSync} = require('node:child_process')
const fs = require('node:fs')
const os = require('node:os')
const path = require('node:path')
const readline = require('node:readline')
const {parseArgs} = require('node:util')

const BODY = Buffer.alloc(100, 'x')
const BATCH = 100
/** Messages that wait for their outcome at the same time. */
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

/** Publishes `messages` by calls of `send` for `many` each, WINDOW messages at a time. */
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
  for (let n = 0; n < WINDOW / many && sent < messages; n++) next()
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

/** Publishes lists to a broker in this process at level memory, and consumes them in batches. Prints messages a second of each. */
async function embedded() {
  const libmq = await require(flags.package).connect('mq:memory')
  await libmq.createChannel('t', 'c')
  const bodies = Array.from({length: BATCH}, () => BODY)
  const rate = (began) => Math.round(messages / ((performance.now() - began) / 1000))
  let began = performance.now()
  for (let sent = 0; sent < messages; sent += WINDOW) {
    const group = []
    for (let n = 0; n < WINDOW && sent + n < messages; n += BATCH) group.push(libmq.publish('t', bodies))
    await Promise.all(group)
  }
  const published = rate(began)
  let seen = 0
  began = performance.now()
  for await (const batch of libmq.subscribe('t', 'c', {maxInFlight: 2000}).batches({max: BATCH})) {
    for (const message of batch) void message.body
    batch.finish()
    seen += batch.length
    if (seen >= messages) break
  }
  console.log(`${published} ${rate(began)}`)
  process.exit()
}

/** Prints how long it takes to load the package. */
function load() {
  const began = performance.now()
  require(flags.package)
  console.log((performance.now() - began).toFixed(2))
}

/** Name, what runs, whether it consumes what is there, and the bar: the part of nsqjs's cost that it may have. The first of
 * each group is what the others stand beside. */
const CASES = [
  [
    ['nsqjs: publish, 1000 at once', (address) => nsqjsWriter(address, 1), false],
    ['libmq: publish, 1000 at once', singles, false, 6]
  ],
  [
    ['nsqjs: publish, lists of 100', (address) => nsqjsWriter(address, BATCH), false],
    ['libmq: publish, lists of 100', lists, false, 10]
  ],
  [
    ['nsqjs: Reader, finish', (address) => reader(flags.nsqjs, address, 200), true],
    ['libmq/nsq: Reader, finish', (address) => reader(path.join(flags.package, 'nsq.js'), address, 200), true],
    ['libmq: for await, finish', loop, true, 8],
    ['libmq: batches of 100, finish', batches, true, 10]
  ]
]

/** What is measured without nsqjs: a name, what runs, and the unit of each number that it prints. */
const ALONE = [
  ['libmq: in this process, lists of 100', embedded, ['published/s', 'consumed in batches/s']],
  ['libmq: load', load, ['ms']]
]

/** Runs a case in a process of its own. Returns the numbers that it prints. */
function run(which, address) {
  const common = ['--nsqjs', flags.nsqjs, '--package', flags.package, '--messages', String(messages)]
  const ended = spawnSync(process.execPath, [__filename, '--case', which, '--address', address, ...common], {encoding: 'utf8'})
  if (ended.status !== 0) throw new Error(`${which}: ${ended.stderr}`)
  return ended.stdout.trim().split(' ').map(Number)
}

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
    if (consumes) run('libmq: publish, lists of 100', address)
    return run(name, address)[0]
  } finally {
    broker.kill('SIGKILL')
    fs.rmSync(folder, {recursive: true})
  }
}

async function main() {
  if (flags.case !== undefined) {
    const [, work] = [...CASES.flat(), ...ALONE].find(([name]) => name === flags.case)
    await work(flags.address)
    return
  }
  for (const name of ['mq', 'nsqjs']) if (flags[name] === undefined) throw new Error(`--${name} is missing`)
  console.log(`${''.padEnd(32)}  CPU us a message   of nsqjs's   bar`)
  for (const group of CASES) {
    let peer
    for (const one of group) {
      let best = Infinity
      for (let round = 0; round < Number(flags.rounds); round++) best = Math.min(best, await measure(one))
      peer ??= best
      const [name, , , bar] = one
      const part = `1/${(peer / best).toFixed(1)}`
      console.log(`${name.padEnd(32)}  ${best.toFixed(2).padStart(16)}   ${part.padEnd(10)}   ${bar ? `1/${bar}` : ''}`.trimEnd())
    }
  }
  for (const [name, , units] of ALONE) {
    const rounds = Array.from({length: Number(flags.rounds)}, () => run(name, ''))
    const best = units.map((unit, at) => {
      const numbers = rounds.map((round) => round[at])
      return `${unit === 'ms' ? Math.min(...numbers) : Math.max(...numbers)} ${unit}`
    })
    console.log(`${name}: ${best.join(', ')}`)
  }
}

main().catch((error) => {
  console.error(`compare: ${error.message}`)
  process.exitCode = 1
})
