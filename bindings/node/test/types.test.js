'use strict'
// The types: strict programs compile as ES modules and as CommonJS, and name what the module has.

const assert = require('node:assert/strict')
const {spawnSync} = require('node:child_process')
const fs = require('node:fs')
const path = require('node:path')
const {test} = require('node:test')

const TOOLS = process.env.MQ_NODE_TOOLS

/** What tsc complains of in files, of which options may be among the names. */
function complaints(...files) {
  const tsc = path.join(TOOLS, 'typescript', 'bin', 'tsc')
  const common = ['--noEmit', '--strict', '--exactOptionalPropertyTypes', '--noUncheckedIndexedAccess']
  const types = ['--target', 'es2022', '--typeRoots', path.join(TOOLS, '@types'), '--types', 'node']
  const ended = spawnSync(process.execPath, [tsc, ...common, ...types, ...files], {cwd: __dirname, encoding: 'utf8'})
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

const ROOT = path.dirname(require.resolve('libmq/package.json'))

/** A file of types, parsed. */
function parsed(file) {
  const ts = require(path.join(TOOLS, 'typescript'))
  return {ts, source: ts.createSourceFile(file, fs.readFileSync(file, 'utf8'), ts.ScriptTarget.ES2022, true)}
}

test('the examples have no error of types', (t) => {
  const folder = fs.mkdtempSync(path.join(__dirname, 'examples-'))
  t.after(() => fs.rmSync(folder, {recursive: true}))
  const files = ['embedded.js', 'client_worker.js', 'dead_letters.js', 'http_service.js'].map((name) => {
    fs.copyFileSync(path.join(process.env.MQ_ROOT, 'examples', 'node', name), path.join(folder, name))
    return path.join(folder, name)
  })
  const loose = ['--strict', 'false', '--exactOptionalPropertyTypes', 'false', '--noUncheckedIndexedAccess', 'false']
  const options = ['--skipLibCheck', '--allowJs', '--checkJs', ...loose, '--module', 'node16', '--moduleResolution', 'node16']
  assert.equal(complaints(...files, ...options), '')
})

/** What programs in comments and on the page use without saying where it is from. */
const AROUND = `
import { connect, run, Batch, Client, Message, MqError, AbortError, Subscription } from 'libmq'
import nsq from 'libmq/nsq'
declare const client: Client
declare const subscription: Subscription
declare const message: Message
declare const batch: Batch
declare function bill(order: unknown): Promise<void>
declare function insert(orders: unknown[]): Promise<void>
`

test('the programs in comments of the types and on the page compile', (t) => {
  const folder = fs.mkdtempSync(path.join(__dirname, 'programs-'))
  t.after(() => fs.rmSync(folder, {recursive: true}))
  const pages = ['index.d.ts', 'testing.d.ts', 'nsq.d.ts'].map((name) => path.join(ROOT, name))
  const files = [...pages, path.join(process.env.MQ_ROOT, 'docs', 'node.md')].flatMap((page) => {
    const text = fs.readFileSync(page, 'utf8').replace(/^ *\* ?/gm, '')
    const programs = Array.from(text.matchAll(/```js\n(.*?)```/gs), ([, program]) => program)
    assert.ok(programs.length > 0, page)
    return programs.map((program, n) => {
      const file = path.join(folder, `${path.basename(page)}-${n}.mts`)
      // One that says where its names are from is whole; any other stands among what is around it.
      const isWhole = /^(import|const nsq = require)/m.test(program)
      const whole = program.replace(/const nsq = require\('(.*)'\).*/, "import nsq from '$1'")
      const functions = AROUND.match(/^declare function.*$/gm).join('\n')
      fs.writeFileSync(file, isWhole ? `${functions}\n${whole}` : `${AROUND}\n;{\n${program}}`)
      return file
    })
  })
  const options = ['--skipLibCheck', '--module', 'node16', '--moduleResolution', 'node16', '--lib', 'es2022,esnext.disposable']
  assert.equal(complaints(...files, ...options), '')
})

for (const name of ['index', 'testing', 'nsq']) {
  test(`all that ${name}.d.ts exports has a comment`, () => {
    const {ts, source} = parsed(path.join(ROOT, `${name}.d.ts`))
    const without = []
    const isCommented = (node) => ts.getJSDocCommentsAndTags(node).length > 0
    for (const node of source.statements) {
      if (ts.isImportDeclaration(node)) continue
      if (!isCommented(node)) without.push(node.name.getText(source))
      // Numbers, options and members of nsqjs have their meaning in their names, and its own page beside them.
      if (!ts.isClassDeclaration(node) || name === 'nsq') continue
      for (const member of node.members) {
        if (!ts.isConstructorDeclaration(member) && !isCommented(member)) without.push(`${node.name.getText(source)}.${member.name.getText(source)}`)
      }
    }
    assert.deepEqual(without, [])
  })
}

/** Names of the values that a file of types exports, and of the members of its classes. */
function declared(file) {
  const {ts, source} = parsed(file)
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
    const values = declared(path.join(ROOT, `${name}.d.ts`))
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
  const values = declared(path.join(ROOT, 'nsq.d.ts'))
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
