'use strict'

module.exports = require('./lib/nsq')
