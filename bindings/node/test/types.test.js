'use strict'
// The types: strict programs compile as ES modules and as CommonJS, and name what the module has.

const assert = require('node:assert/strict')
const {spawnSync} = require('node:child_process')
const fs = require('node:fs')
const path = require('node:path')
const {test} = require('node:test')

const TOOLS = process.env.MQ_NODE_TOOLS

/** What tsc complains of in a file. */
function complaints(file, ...options) {
  const tsc = path.join(TOOLS, 'typescript', 'bin', 'tsc')
  const common = ['--noEmit', '--strict', '--exactOptionalPropertyTypes', '--noUncheckedIndexedAccess']
  const types = ['--target', 'es2022', '--typeRoots', path.join(TOOLS, '@types'), '--types', 'node']
  const ended = spawnSync(process.execPath, [tsc, ...common, ...types, ...options, file], {cwd: __dirname, encoding: 'utf8'})
  return ended.stdout
}

const cases = [
  ['surface.mts', 'node16'],
  ['surface.cts', 'node16'],
  ['surface.mts', 'bundler']
]
for (const [file, resolution] of cases) {
  test(`${file} compiles under ${resolution}`, () => {
    const module = resolution === 'node16' ? 'node16' : 'esnext'
    assert.equal(complaints(file, '--module', module, '--moduleResolution', resolution), '')
  })
}

test('a wrong program does not compile', () => {
  const said = complaints('wrong.mts', '--module', 'node16', '--moduleResolution', 'node16')
  const wanted = fs.readFileSync(path.join(__dirname, 'wrong.mts'), 'utf8').match(/Wrong/g).length
  assert.equal(said.match(/error TS/g)?.length, wanted, said)
})

/** Names of the values that a file of types exports, and of the members of its classes. */
function declared(file) {
  const ts = require(path.join(TOOLS, 'typescript'))
  const source = ts.createSourceFile(file, fs.readFileSync(file, 'utf8'), ts.ScriptTarget.ES2022, true)
  const values = new Map()
  for (const node of source.statements) {
    if (ts.isFunctionDeclaration(node)) values.set(node.name.text, null)
    if (!ts.isClassDeclaration(node)) continue
    const members = node.members.filter((member) => member.name !== undefined).map((member) => member.name.getText(source))
    values.set(node.name.text, new Set(members))
  }
  return values
}

for (const name of ['index', 'testing']) {
  test(`${name}.d.ts and its module have the same names`, () => {
    const module = require(name === 'index' ? 'libmq' : `libmq/${name}`)
    const root = path.dirname(require.resolve('libmq/package.json'))
    const values = declared(path.join(root, `${name}.d.ts`))
    assert.deepEqual([...values.keys()].sort(), Object.keys(module).sort())
    for (const [value, members] of values) {
      if (members === null || module[value].prototype instanceof Error) continue
      const own = Reflect.ownKeys(module[value].prototype).filter((key) => key !== 'constructor')
      const symbols = new Map(['asyncDispose', 'asyncIterator', 'iterator'].map((key) => [Symbol[key], `[Symbol.${key}]`]))
      const names = own.map((key) => (typeof key === 'string' ? key : symbols.get(key))).filter((key) => key !== undefined)
      assert.deepEqual([...members].sort(), names.sort(), value)
    }
  })
}

test('nsq.d.ts and its module have the same names', () => {
  const [module, real] = [require('libmq/nsq'), require(path.join(TOOLS, 'nsqjs'))]
  const root = path.dirname(require.resolve('libmq/package.json'))
  const values = declared(path.join(root, 'nsq.d.ts'))
  assert.deepEqual([...values.keys()].sort(), Object.keys(module).sort())
  assert.deepEqual(Object.keys(module).sort(), Object.keys(real).sort())
  for (const name of ['Reader', 'Writer', 'Message']) {
    const example = {Reader: ['t', 'c', {nsqdTCPAddresses: 'a:1'}], Writer: ['a', 1], Message: [Buffer.alloc(26)]}[name]
    const made = new module[name](...example)
    for (const member of values.get(name)) assert.ok(member in made || member in module[name], `${name}.${member}`)
    const statics = Object.getOwnPropertyNames(real[name]).filter((key) => /^[A-Z_]+$/.test(key))
    for (const key of statics) assert.equal(module[name][key], real[name][key], `${name}.${key}`)
  }
})
