'use strict'

const {connect, Client} = require('./lib/client')
const {MqError, AbortError} = require('./lib/error')
const {Message, Batch} = require('./lib/message')
const {run} = require('./lib/run')
const {Subscription} = require('./lib/subscription')

module.exports = {connect, run, Client, Subscription, Message, Batch, MqError, AbortError}
