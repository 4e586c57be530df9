// Builds the addon from a checkout, where no binary is there yet. `npm install` runs it; by hand it builds anew:
// `node scripts/build.mjs [--profile NAME]`. Without it `LIBMQ_PROFILE` names cargo's profile, which is `release` else.

import { spawnSync } from 'node:child_process'
import { copyFileSync, existsSync, renameSync } from 'node:fs'
import { createRequire } from 'node:module'
import path from 'node:path'
import { fileURLToPath } from 'node:url'

const require = createRequire(import.meta.url)
const { platform } = require('../lib/native.js')
const own = path.join(path.dirname(fileURLToPath(import.meta.url)), '..')
const name = platform()

function fail(text) {
  console.error(`libmq: ${text}`)
  process.exit(1)
}

function isThere(wanted) {
  try {
    require.resolve(wanted)
    return true
  } catch {
    return false
  }
}

/** Runs cargo, and returns what it prints. */
function cargo(...args) {
  const ended = spawnSync('cargo', args, { cwd: own, encoding: 'utf8', stdio: ['ignore', 'pipe', 'inherit'], maxBuffer: 2 ** 28 })
  if (ended.error?.code === 'ENOENT') fail('no cargo on the path: install Rust from https://rustup.rs, then run `npm rebuild libmq`')
  if (ended.error) fail(`cargo: ${ended.error.message}`)
  if (ended.status !== 0) fail(`cargo ${args.join(' ')} failed`)
  return ended.stdout
}

if (name === null) fail(`there is no binary for ${process.platform} on ${process.arch}, nor can one be built`)
const isCheckout = existsSync(path.join(own, 'Cargo.toml'))
if (!isCheckout) {
  if (!isThere(`libmq-${name}`)) fail(`the optional dependency libmq-${name} is not installed`)
  process.exit(0)
}
const at = process.argv.indexOf('--profile')
const profile = at > 0 ? process.argv[at + 1] : process.env.LIBMQ_PROFILE || 'release'
const { target_directory: target } = JSON.parse(cargo('metadata', '--format-version=1', '--no-deps'))
cargo('build', '--locked', '--package', 'mq-node', '--profile', profile)
const library = process.platform === 'darwin' ? 'libmq_node.dylib' : 'libmq_node.so'
const built = path.join(target, profile === 'dev' ? 'debug' : profile, library)
// Renamed into its place: a process that has the old one loaded keeps it.
const file = path.join(own, `mq.${name}.node`)
copyFileSync(built, `${file}.new`)
renameSync(`${file}.new`, file)
console.log(`libmq: built mq.${name}.node`)
