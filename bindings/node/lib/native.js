'use strict'
// The addon: built beside this package from a checkout, or in the package of its platform.

const {readFileSync} = require('node:fs')

/** The platform as the names of binaries and their packages have it, or null where none is built. */
function platform() {
  const {platform: os, arch} = process
  if (os === 'darwin' && (arch === 'x64' || arch === 'arm64')) return `darwin-${arch}`
  if (os !== 'linux' || (arch !== 'x64' && arch !== 'arm64')) return null
  return isGlibc() ? `linux-${arch}-gnu` : null
}

/** Whether this system's C library is glibc. */
function isGlibc() {
  try {
    // A script that names its library; quicker than the report.
    const ldd = readFileSync('/usr/bin/ldd', 'latin1')
    if (ldd.includes('GNU C Library')) return true
    if (ldd.includes('musl')) return false
  } catch {
    // Systems without a compiler may lack it.
  }
  const {excludeNetwork} = process.report
  // The report would ask the network for names of peers otherwise.
  process.report.excludeNetwork = true
  const {glibcVersionRuntime} = process.report.getReport().header
  process.report.excludeNetwork = excludeNetwork
  return glibcVersionRuntime !== undefined
}

/** Loads the addon. */
function load() {
  const name = platform()
  if (name === null) throw new Error(`libmq has no binary for ${process.platform} on ${process.arch}, nor can one be built`)
  try {
    return require(`../mq.${name}.node`)
  } catch (error) {
    if (error.code !== 'MODULE_NOT_FOUND') throw error
  }
  try {
    return require(`libmq-${name}`)
  } catch (error) {
    if (error.code !== 'MODULE_NOT_FOUND') throw error
    throw new Error(
      `libmq has no binary here: install its optional dependency libmq-${name}, or in a checkout run ` +
        '`node scripts/build.mjs` in bindings/node',
      {cause: error}
    )
  }
}

module.exports = {platform, load}
