'use strict'
// nsqjs's surface on this package.

const {Message} = require('./message')
const {NSQDConnection, WriterNSQDConnection} = require('./missing')
const {Reader} = require('./reader')
const {Writer} = require('./writer')

module.exports = {Message, Reader, Writer, NSQDConnection, WriterNSQDConnection}
