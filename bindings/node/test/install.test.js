'use strict'
// Installing: from a checkout, from the packages, and where the binary is missing.

const assert = require('node:assert/strict')
const {spawnSync} = require('node:child_process')
const fs = require('node:fs')
const os = require('node:os')
const path = require('node:path')
const {test} = require('node:test')

const ROOT = path.dirname(require.resolve('libmq/package.json'))

/** An empty project that goes with the test. */
function project(t) {
  const folder = fs.mkdtempSync(path.join(os.tmpdir(), 'libmq-project-'))
  t.after(() => fs.rmSync(folder, {recursive: true}))
  fs.writeFileSync(path.join(folder, 'package.json'), '{"name": "project", "private": true}')
  return folder
}

function run(folder, command, ...args) {
  const {status, stdout, stderr} = spawnSync(command, args, {cwd: folder, encoding: 'utf8'})
  return {status, stdout, stderr}
}

test('the main package runs nothing when it is installed, and has one binary package as an optional dependency', () => {
  const manifest = JSON.parse(fs.readFileSync(path.join(ROOT, 'package.json'), 'utf8'))
  assert.deepEqual([manifest.scripts, manifest.dependencies], [undefined, undefined])
  const [[name, version], ...others] = Object.entries(manifest.optionalDependencies)
  assert.deepEqual([others, version], [[], manifest.version])
  const binary = JSON.parse(fs.readFileSync(path.join(ROOT, '..', name, 'package.json'), 'utf8'))
  assert.deepEqual([binary.version, binary.scripts, binary.os, binary.cpu], [version, undefined, [process.platform], [process.arch]])
  const names = fs.readdirSync(ROOT)
  for (const wanted of ['README.md', 'LICENSE-MIT', 'LICENSE-APACHE', 'index.d.ts', 'lib']) assert.ok(names.includes(wanted), wanted)
  assert.ok(!names.some((own) => ['src', 'test', 'Cargo.toml'].includes(own) || own.endsWith('.node')), String(names))
})

test('a checkout is installed by one command', (t) => {
  const folder = project(t)
  const installed = run(folder, 'npm', 'install', '--no-audit', '--no-fund', path.join(process.env.MQ_ROOT, 'bindings', 'node'))
  assert.equal(installed.status, 0, installed.stderr)
  const body = `
    const client = await connect('mq:memory')
    console.log((await client.publish('t', 'x')).broker)
    await client.close()`
  fs.writeFileSync(path.join(folder, 'main.mjs'), `import { connect } from 'libmq'\n${body}`)
  fs.writeFileSync(path.join(folder, 'main.cjs'), `const { connect } = require('libmq')\n;(async () => {${body}})()`)
  for (const file of ['main.mjs', 'main.cjs']) {
    assert.deepEqual(run(folder, process.execPath, file), {status: 0, stdout: 'mq:memory\n', stderr: ''})
  }
  const shown = run(folder, 'npx', '--no-install', 'libmq', '--version')
  assert.equal(shown.status, 0, shown.stderr)
})

test('without a binary an error says how to get one', (t) => {
  const folder = project(t)
  const filter = (file) => !file.endsWith('.node')
  fs.cpSync(ROOT, path.join(folder, 'node_modules', 'libmq'), {recursive: true, dereference: true, filter})
  const {status, stderr} = run(folder, process.execPath, '-e', "require('libmq')")
  assert.equal(status, 1)
  assert.match(stderr, /libmq has no binary here: install its optional dependency libmq-\w+-\w+/)
})
