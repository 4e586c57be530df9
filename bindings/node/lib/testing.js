'use strict'
// For tests: a broker in memory, whose time stands still until it is moved on.

const {open, Client, ADVANCE} = require('./client')

const URL = 'mq:memory?test_clock=true'

/** A client of a broker of its own, whose clock a test moves. */
class TestClient extends Client {
  /** Moves time on. What is due has happened then. */
  async advance(ms) {
    await this[ADVANCE](ms)
  }
}

/** Opens a broker for one test. */
async function connect(options) {
  return await open(TestClient, URL, options)
}

module.exports = {connect, TestClient}
