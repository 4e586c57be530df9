'use strict'
// How many messages a reader lets come: all, one to try, or none.

const {BackoffTimer} = require('./backoff_timer')

/** After a failure none come for a time; then one, whose success lets all come again. */
class Flow {
  #maxInFlight
  #backoff
  #timer = null
  #isPaused = false
  /** `all`, `none` during a pause after failures, `one` after it. */
  #stage = 'all'
  #apply

  /** `apply` is called with the number of messages that may be in flight whenever it changes. */
  constructor(maxInFlight, maxBackoffDuration, apply) {
    this.#maxInFlight = maxInFlight
    this.#backoff = new BackoffTimer(0, maxBackoffDuration)
    this.#apply = apply
  }

  get isPaused() {
    return this.#isPaused
  }

  /** The number of messages that may be in flight. */
  get credit() {
    if (this.#isPaused || this.#stage === 'none') return 0
    return this.#stage === 'one' ? 1 : this.#maxInFlight
  }

  success() {
    // Those that end during a pause began before it.
    if (this.#isPaused || this.#stage === 'none') return
    this.#backoff.success()
    if (this.#stage === 'one') this.#become('all')
  }

  failure() {
    if (this.#isPaused || this.#stage === 'none') return
    this.#backoff.failure()
    this.#become('none')
    this.#timer = setTimeout(() => this.#become('one'), this.#backoff.getInterval() * 1000)
  }

  pause() {
    if (this.#isPaused) return
    this.#isPaused = true
    this.#stop()
    this.#apply(0)
  }

  unpause() {
    if (!this.#isPaused) return
    this.#isPaused = false
    this.#become('one')
  }

  /** No broker is connected: whatever comes then comes as at first. */
  reset() {
    this.#stop()
    if (!this.#isPaused && this.#stage !== 'all') this.#become('all')
  }

  /** Ends it, until `reset`. */
  end() {
    this.#stop()
    this.#stage = 'all'
  }

  #stop() {
    clearTimeout(this.#timer)
    this.#timer = null
  }

  #become(stage) {
    this.#stage = stage
    this.#apply(this.credit)
  }
}

module.exports = {Flow}
