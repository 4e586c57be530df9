'use strict'
// A broker in a program, on a disk that stalls: the event loop goes on.

const assert = require('node:assert/strict')
const {spawnSync} = require('node:child_process')
const fs = require('node:fs')
const os = require('node:os')
const path = require('node:path')
const {before, after, describe, test} = require('node:test')

const SOURCE = path.join(process.env.MQ_ROOT, 'tests', 'stalled_disk', 'slow_disk.c')
/** The longest time that the event loop may wait for something, ms: far below any disk that stalls. */
const PAUSE_MAX_MS = 20

/** All of it waits for the disk while the file GATE is there; only the loop can remove that. */
const PROGRAM = `
const fs = require('node:fs')
const {setTimeout: sleep} = require('node:timers/promises')
const {Worker} = require('node:worker_threads')
const {connect} = require('libmq')

const [folder, gate, durability] = process.argv.slice(1)

/** The thread's time on a processor, and its wait for one, ms: on a busy machine both are long, and no fault of it. */
function busy() {
  const [ran, delayed] = fs.readFileSync('/proc/thread-self/schedstat', 'latin1').split(' ')
  return (Number(ran) + Number(delayed)) / 1e6
}

/** How long each other thread of this process has waited for a processor, ms: this one waits as long for a lock of its. */
function delays() {
  const delayed = new Map()
  for (const thread of fs.readdirSync('/proc/self/task')) {
    if (thread === String(process.pid)) continue
    try {
      delayed.set(thread, Number(fs.readFileSync('/proc/self/task/' + thread + '/schedstat', 'latin1').split(' ')[1]) / 1e6)
    } catch {
      // It has ended.
    }
  }
  return delayed
}

let [longest, isOver] = [0, false]
async function measure() {
  let [last, lastBusy, lastDelays] = [performance.now(), busy(), delays()]
  while (!isOver) {
    await sleep(1)
    const [now, nowBusy, nowDelays] = [performance.now(), busy(), delays()]
    const delayed = [...nowDelays].map(([thread, delay]) => delay - (lastDelays.get(thread) ?? 0))
    longest = Math.max(longest, now - last - (nowBusy - lastBusy) - Math.max(...delayed))
    last = now
    lastBusy = nowBusy
    lastDelays = nowDelays
  }
}

async function main() {
  const client = await connect(folder, {durability})
  const billing = client.subscribe('orders', 'billing')
  await client.publish('orders', Array.from({length: 100}, (_, n) => String(n)))
  const taken = []
  while (taken.length < 100) taken.push((await billing.next()).value)
  const idle = client.subscribe('orders', 'idle')
  await idle.opened()
  const left = new AbortController()
  const abandoned = client.subscribe('orders', 'abandoned', {signal: left.signal})
  await abandoned.opened()
  // Should this thread stand still, nobody else removes the gate.
  const watchdog = new Worker("setTimeout(() => process.kill(process.pid, 'SIGKILL'), 20000)", {eval: true})
  watchdog.unref()

  const measured = measure()
  fs.writeFileSync(gate, '')
  const published = Array.from({length: 100}, (_, n) => client.publish('orders', 'late ' + n))
  for (let n = 0; n < 20; n++) published.push(client.publish('orders', Array.from({length: 100}, () => 'x'.repeat(1000))))
  published.push(client.publish('orders', {body: 'full', headers: {a: 'b'}, id: 'one', delay: 1}))
  for (const message of taken.slice(0, 50)) message.finish()
  for (const message of taken.slice(50)) message.requeue()
  while (!fs.existsSync(gate + '.held')) await sleep(1)
  for (let turn = 0; turn < 200; turn++) await sleep(1)
  // What was delivered before is in memory: it comes though nothing can be written.
  for (let again = 0; again < 50; ) {
    const {value: message} = await billing.next()
    again += message.attempts - 1
    message.touch()
    message.finish()
  }
  const others = [client.createTopic('other'), client.pauseChannel('orders', 'idle'), client.stats(), idle.close()]
  left.abort()
  others.push(billing.flush({timeout: 30_000}).then((flushed) => console.log('flushed', flushed)))
  const opened = client.subscribe('more', 'more')
  others.push(client.publish('more', 'x'))
  for (let turn = 0; turn < 200; turn++) await sleep(1)
  fs.unlinkSync(gate)
  isOver = true
  await measured

  await Promise.all([...published, ...others])
  console.log((await opened.next()).value.text())
  await client.close()
  console.log(longest)
}
main()
`

describe('on a disk that stalls', {skip: process.platform !== 'linux' && 'calls are held by the kernel of Linux'}, () => {
  const folder = fs.mkdtempSync(path.join(os.tmpdir(), 'libmq-node-'))
  const slowDisk = path.join(folder, 'slow_disk')
  let isBuilt = false
  before(() => {
    isBuilt = spawnSync('cc', ['-O1', '-o', slowDisk, SOURCE]).status === 0
  })
  after(() => fs.rmSync(folder, {recursive: true}))

  for (const durability of ['memory', 'flush', 'sync']) {
    test(`the event loop goes on at the level ${durability}`, (t) => {
      if (!isBuilt) {
        t.skip('no C compiler')
        return
      }
      const [data, gate] = [path.join(folder, durability), path.join(folder, `${durability}.gate`)]
      // Else the thread waits for its helpers, and those for a processor.
      const command = [data, gate, process.execPath, '--single-threaded-gc', '-e', PROGRAM, data, gate, durability]
      const {status, stdout, stderr} = spawnSync(slowDisk, command, {cwd: __dirname, encoding: 'utf8', timeout: 60_000})
      const held = fs.existsSync(`${gate}.held`) ? fs.readFileSync(`${gate}.held`, 'utf8').trim().split('\n') : []
      assert.deepEqual(held.filter((call) => call.startsWith('main')), [], "JavaScript's thread waits for the disk")
      assert.equal(status, 0, `${stderr}; calls that wait: ${held}`)
      assert.ok(held.length > 0, 'nothing waited for the disk')
      const [flushed, text, longest] = stdout.trim().split('\n')
      assert.deepEqual([flushed, text], ['flushed true', 'x'])
      t.diagnostic(`longest wait ${Number(longest).toFixed(1)} ms`)
      assert.ok(Number(longest) < PAUSE_MAX_MS, `a wait of ${longest} ms`)
    })
  }
})
