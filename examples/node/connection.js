'use strict'
// What both examples share: their arguments, the generated clients, and pauses between attempts.

const fs = require('node:fs')
const path = require('node:path')
const {parseArgs} = require('node:util')

const grpc = require('@grpc/grpc-js')
const protoLoader = require('@grpc/proto-loader')

// Where `mq proto --out protos` wrote them: beside this file, or where MQ_PROTOS says. In a checkout of libmq: its own.
const PROTOS = [process.env.MQ_PROTOS, path.join(__dirname, 'protos'), path.join(__dirname, '..', '..', 'grpc', 'proto')]
  .find((folder) => folder && fs.existsSync(path.join(folder, 'mq', 'v1', 'publish.proto')))
if (!PROTOS) throw new Error('no protos: run `mq proto --out protos` here, or set MQ_PROTOS to where they are')

// Numbers of 64 bits are strings, since not all of them fit into JavaScript's.
const loaded = protoLoader.loadSync(['mq/v1/publish.proto', 'mq/v1/subscribe.proto'], {
  includeDirs: [PROTOS],
  longs: String,
  enums: String,
  defaults: true,
  oneofs: true
})
const {PublishService, SubscribeService} = grpc.loadPackageDefinition(loaded).mq.v1

const FIRST_PAUSE_MS = 100
const LONGEST_PAUSE_MS = 2000

/** The arguments, those of `more` besides the common ones. */
function parseArguments(more) {
  const options = {
    address: {type: 'string', default: '127.0.0.1:4155'},
    topic: {type: 'string'},
    ca: {type: 'string'},
    ...more
  }
  const {values} = parseArgs({options})
  for (const name of ['topic', 'channel']) {
    if (name in options && !values[name]) throw new Error(`--${name} is missing`)
  }
  return values
}

/** A client of `Service`, over TLS if --ca names the PEM file of who signed the broker's certificate. */
function connect(Service, {address, ca}) {
  const credentials = ca ? grpc.credentials.createSsl(fs.readFileSync(ca)) : grpc.credentials.createInsecure()
  return new Service(address, credentials, {
    // A broker that is gone without a word is noticed after these.
    'grpc.keepalive_time_ms': 20_000,
    'grpc.keepalive_timeout_ms': 20_000,
    // The broker says how large a message may be.
    'grpc.max_receive_message_length': -1
  })
}

/** Shows the token in MQ_TOKEN, if there is one. Without TLS it can be read on its way. */
function metadata() {
  const shown = new grpc.Metadata()
  if (process.env.MQ_TOKEN) shown.set('authorization', `Bearer ${process.env.MQ_TOKEN}`)
  return shown
}

module.exports = {PublishService, SubscribeService, parseArguments, connect, metadata, FIRST_PAUSE_MS, LONGEST_PAUSE_MS}
