'use strict'
// Errors: one class with stable codes. Whatever fails in the background becomes an error only in the function
// that the caller waits in, so that its stack begins in the caller's code.

const path = require('node:path')

const OWN_FOLDER = __dirname + path.sep

/** The reason why a call failed. */
class MqError extends Error {
  constructor(code, message, {retry = false, cause} = {}) {
    super(message, cause === undefined ? undefined : {cause})
    this.code = code
    this.retry = retry
    const {stack} = this
    // A hook for stacks may have made it anything.
    if (typeof stack === 'string') {
      const lines = stack.split('\n').filter((line) => !line.includes(OWN_FOLDER))
      Object.defineProperty(this, 'stack', {value: lines.join('\n'), configurable: true, writable: true})
    }
  }
}
Object.defineProperty(MqError.prototype, 'name', {value: 'MqError', configurable: true, writable: true})

/** The end of a wait by its AbortSignal. */
class AbortError extends MqError {
  constructor(cause) {
    super('ABORT_ERR', 'the operation was aborted', {cause})
  }
}
Object.defineProperty(AbortError.prototype, 'name', {value: 'AbortError', configurable: true, writable: true})

/** A failure on its way to whoever waits for it. */
class Failure {
  constructor(code, message, retry) {
    this.code = code
    this.message = message
    this.retry = retry
  }

  /** The error, made where the caller waits. */
  error() {
    return new MqError(this.code, this.message, {retry: this.retry})
  }
}

module.exports = {MqError, AbortError, Failure}
