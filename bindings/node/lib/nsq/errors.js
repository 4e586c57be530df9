'use strict'
// Failures of connections as nsqjs's errors, and what becomes of those that nobody listens to.

const util = require('node:util')

const {splitHostPort} = require('./config')

/** How the crate says that a broker ended a connection in order. */
const ENDED = 'the server closed the connection'

/** The error of a failure, or null where nsqjs has none. */
function errorOf({broker, code, message}) {
  const why = message.startsWith(broker) ? message.slice(broker.length).replace(/^( refused)?: /, '') : message
  if (why === ENDED) return null
  const [, number] = /\(os error (\d+)\)/.exec(why) ?? []
  if (number !== undefined) {
    const [name, [address, port]] = [util.getSystemErrorName(-number), splitHostPort(broker.replace(/^https:\/\//, ''))]
    const error = new Error(`connect ${name} ${broker}`)
    return Object.assign(error, {errno: -number, code: name, syscall: 'connect', address, port: Number(port)})
  }
  // An error frame: E_FIN_FAILED and its like, with the broker's text.
  const [frame] = /^E_\w+/.exec(why) ?? []
  return Object.assign(new Error(frame === undefined ? message : why), {code: frame ?? code})
}

/**
 * Tells the listeners of `error`, or of another event, that something failed which goes on by itself. Without
 * listeners it ends no process: a warning says it, once for each code.
 */
function tell(emitter, warned, error, event = 'error') {
  if (emitter.listenerCount(event) > 0) {
    emitter.emit(event, error)
    return
  }
  if (warned.has(error.code)) return
  warned.add(error.code)
  process.emitWarning(`${error.message} (nobody listens to '${event}' of this ${emitter.constructor.name})`, {
    type: 'LibmqWarning',
    code: error.code
  })
}

module.exports = {errorOf, tell}
