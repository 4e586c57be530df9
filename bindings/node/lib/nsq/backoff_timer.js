'use strict'

/** A wait in seconds that grows with failures and shrinks with successes: by large steps at first, then by small ones. */
class BackoffTimer {
  constructor(minInterval, maxInterval, ratio = 0.25, shortLength = 10, longLength = 250) {
    const span = maxInterval - minInterval
    this.minInterval = minInterval
    this.maxInterval = maxInterval
    this.maxShortTimer = span * ratio
    this.maxLongTimer = span * (1 - ratio)
    this.shortUnit = this.maxShortTimer / shortLength
    this.longUnit = this.maxLongTimer / longLength
    this.shortInterval = 0
    this.longInterval = 0
  }

  /** One success: the wait is a step shorter. */
  success() {
    this.shortInterval = Math.max(this.shortInterval - this.shortUnit, 0)
    this.longInterval = Math.max(this.longInterval - this.longUnit, 0)
  }

  /** One failure: the wait is a step longer. */
  failure() {
    this.shortInterval = Math.min(this.shortInterval + this.shortUnit, this.maxShortTimer)
    this.longInterval = Math.min(this.longInterval + this.longUnit, this.maxLongTimer)
  }

  /** The wait. */
  getInterval() {
    return this.minInterval + this.shortInterval + this.longInterval
  }
}

module.exports = {BackoffTimer}
