'use strict'
// The addon: built beside this package from a checkout, or in the package of its platform.

/** The platform as the names of binaries and their packages have it, or null where none is built. */
function platform() {
  const {platform: os, arch} = process
  if (os === 'darwin' && (arch === 'x64' || arch === 'arm64')) return `darwin-${arch}`
  if (os !== 'linux' || (arch !== 'x64' && arch !== 'arm64')) return null
  // The report would ask the network for names of peers otherwise.
  process.report.excludeNetwork = true
  const {glibcVersionRuntime} = process.report.getReport().header
  return glibcVersionRuntime ? `linux-${arch}-gnu` : null
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
