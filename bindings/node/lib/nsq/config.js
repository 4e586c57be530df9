'use strict'
// Options of readers and writers: nsqjs's names, defaults, ranges and errors; and what of them this package takes.

/** Longest and shortest times that the package takes, in milliseconds. */
const HEARTBEAT_MS = [1000, 60_000]
const LOOKUP_POLL_MS = [10, 300_000]
const MESSAGE_TIMEOUT_MS = [1000, 900_000]
const RECONNECT_MAX_MS = 15_000
/** Beginning of the address of a lookup server that is asked over TLS. */
const HTTPS = 'https://'

const isString = (value) => typeof value === 'string' || value instanceof String
const isNumber = (value) => typeof value === 'number' || value instanceof Number
const within = (value, [min, max]) => Math.min(Math.max(value, min), max)

function joinHostPort(host, port) {
  return host.includes(':') ? `[${host}]:${port}` : `${host}:${port}`
}

function splitHostPort(address) {
  const at = address.lastIndexOf(':')
  return [address.slice(0, Math.max(at, 0)).replace(/^\[(.*)\]$/, '$1'), address.slice(at + 1)]
}

function isBareAddress(address) {
  if (!isString(address)) return false
  const [host, port] = splitHostPort(String(address))
  return host.length > 0 && Number(port) > 0
}

function isLookupAddress(address) {
  if (!isString(address)) return false
  if (!address.includes('://')) return isBareAddress(address)
  try {
    const {protocol, host} = new URL(address)
    return ['http:', 'https:'].includes(protocol) && host.length > 0
  } catch {
    return false
  }
}

// Rules. Each throws what nsqjs throws.

function nonEmptyString(option, value) {
  if (!isString(value) || value.length === 0) throw new Error(`${option} must be a non-empty string`)
}

function boolean(option, value) {
  if (typeof value !== 'boolean') throw new Error(`${option} must be either true or false`)
}

function number(min, max) {
  return (option, value) => {
    if (!isNumber(value) || Number.isNaN(Number(value))) throw new Error(`${option}(${value}) is not a number`)
    if (max === undefined && !(min <= value)) throw new Error(`${min} <= ${option}(${value})`)
    if (max !== undefined && !(min <= value && value <= max)) throw new Error(`${min} <= ${option}(${value}) <= ${max}`)
  }
}

function between(min, max) {
  return (option, value) => {
    if (!isNumber(value) || Number.isNaN(Number(value))) throw new Error(`${option}(${value}) is not a number`)
    if (!(min < value && value < max)) throw new Error(`${min} < ${option}(${value}) < ${max}`)
  }
}

function buffer(option, value) {
  if (!Buffer.isBuffer(value)) throw new Error(`${option} must be a buffer`)
}

function bareAddresses(option, value) {
  if (!Array.isArray(value) || !value.every(isBareAddress)) {
    throw new Error(`${option} must be a list of addresses 'host:port'`)
  }
}

function lookupAddresses(option, value) {
  if (!Array.isArray(value) || !value.every(isLookupAddress)) {
    throw new Error(`${option} must be a list of addresses 'host:port' or HTTP/HTTPS URI`)
  }
}

/** The default and the rule of each option. One whose default is null may be null. */
const CONNECTION = {
  authSecret: [null, nonEmptyString],
  clientId: [null, nonEmptyString],
  deflate: [false, boolean],
  deflateLevel: [6, number(0, 9)],
  heartbeatInterval: [30, number(1)],
  maxInFlight: [1, number(1)],
  messageTimeout: [null, number(1)],
  outputBufferSize: [null, number(64)],
  outputBufferTimeout: [null, number(1)],
  requeueDelay: [90_000, number(0)],
  sampleRate: [null, number(1, 99)],
  snappy: [false, boolean],
  tls: [false, boolean],
  tlsVerification: [true, boolean],
  key: [null, buffer],
  cert: [null, buffer],
  ca: [null, buffer],
  idleTimeout: [0, number(0)]
}
const READER = {
  ...CONNECTION,
  lookupdHTTPAddresses: [[], lookupAddresses],
  lookupdPollInterval: [60, number(1)],
  lookupdPollJitter: [0.3, between(0, 1)],
  lowRdyTimeout: [50, number(1)],
  name: [null, nonEmptyString],
  nsqdTCPAddresses: [[], bareAddresses],
  maxAttempts: [0, number(0)],
  maxBackoffDuration: [128, number(0)]
}
/** Options that -1 turns off. */
const CAN_BE_OFF = ['outputBufferSize', 'outputBufferTimeout']

/** Options of a connection: those that are known, and defaults. */
class ConnectionConfig {
  constructor(options = {}, known = CONNECTION) {
    for (const [name, [value]] of Object.entries(known)) {
      this[name] = Object.prototype.hasOwnProperty.call(options, name) ? options[name] : value
    }
    for (const name of ['nsqdTCPAddresses', 'lookupdHTTPAddresses']) {
      if (isString(this[name])) this[name] = [String(this[name])]
    }
    for (const [name, [value, rule]] of Object.entries(known)) {
      const isLeftOut = (value === null && this[name] === null) || typeof this[name] === 'function'
      const isOff = CAN_BE_OFF.includes(name) && this[name] === -1
      if (!isLeftOut && !isOff) rule(name, this[name])
    }
    if (this.snappy && this.deflate) throw new Error('Cannot use both deflate and snappy')
  }

  /** The options of `connect`. Buffers of connections are the library's own, and need no settings. */
  settings() {
    const settings = {heartbeatInterval: within(this.heartbeatInterval * 1000, HEARTBEAT_MS)}
    if (this.clientId !== null) settings.clientId = String(this.clientId)
    if (this.authSecret !== null) settings.authSecret = String(this.authSecret)
    if (this.snappy) settings.compression = 'snappy'
    // Level 0 is the default, as for nsqd.
    if (this.deflate) settings.compression = this.deflateLevel >= 1 ? `deflate-${Math.floor(this.deflateLevel)}` : 'deflate'
    if (this.usesTls()) {
      settings.tlsInsecure = !this.tlsVerification
      if (this.ca !== null) settings.tlsRootCaFile = pem(this.ca)
      if (this.cert !== null) settings.tlsCertFile = pem(this.cert)
      if (this.key !== null) settings.tlsKeyFile = pem(this.key)
    }
    return settings
  }

  /** Whether any connection is over TLS. */
  usesTls() {
    return this.tls
  }

  /** The URL of brokers at these addresses. */
  url(addresses) {
    return `${this.tls ? 'mqs' : 'mq'}://${addresses.join(',')}`
  }
}

/** Options of a reader. */
class ReaderConfig extends ConnectionConfig {
  constructor(options = {}) {
    super(options, READER)
    if (this.nsqdTCPAddresses.length + this.lookupdHTTPAddresses.length === 0) {
      throw new Error('Need to provide either nsqdTCPAddresses or lookupdHTTPAddresses')
    }
    // What can't be asked is refused here.
    this.lookupServers()
  }

  usesTls() {
    return this.tls || this.lookupServers().some((server) => server.startsWith(HTTPS))
  }

  settings() {
    return {
      ...super.settings(),
      lookupPollInterval: within(this.lookupdPollInterval * 1000, LOOKUP_POLL_MS),
      maxReconnectDelay: Math.min(this.lookupdPollInterval * 1000, RECONNECT_MAX_MS)
    }
  }

  /** The options of `subscribe`. */
  subscription() {
    const msgTimeout = this.messageTimeout === null ? null : within(this.messageTimeout, MESSAGE_TIMEOUT_MS)
    const options = {maxInFlight: Math.floor(this.maxInFlight), msgTimeout}
    if (this.sampleRate !== null) options.sampleRate = Math.floor(this.sampleRate)
    return options
  }

  /** Lookup servers as a URL of `connect` has them. */
  lookupServers() {
    return this.lookupdHTTPAddresses.map(lookupServer)
  }

  /** The URL of what the reader begins with, and the brokers that it connects to besides. */
  places() {
    if (this.lookupdHTTPAddresses.length === 0) return {url: this.url(this.nsqdTCPAddresses), others: []}
    const scheme = this.tls ? 'mqs+lookup' : 'mq+lookup'
    return {url: `${scheme}://${this.lookupServers().join(',')}`, others: this.nsqdTCPAddresses}
  }
}

/** A PEM text as the package takes it in place of a file: without what tools write before it. */
function pem(bytes) {
  const text = bytes.toString()
  const start = text.indexOf('-----BEGIN ')
  if (start < 0) throw new Error('ca, cert and key are PEM: there is no -----BEGIN in one of them')
  return text.slice(start)
}

/** host:port of a lookup server that may be given as a URL, with `https://` before it where it is asked so. */
function lookupServer(address) {
  if (!address.includes('://')) return String(address)
  const {protocol, hostname, port, pathname, search} = new URL(address)
  if (!['/', '/lookup'].includes(pathname) || search !== '') {
    throw new Error(`lookupdHTTPAddresses: libmq/nsq asks lookup servers as http(s)://host:port/lookup, not ${address}`)
  }
  return protocol === 'https:' ? `${HTTPS}${hostname}:${port || 443}` : `${hostname}:${port || 80}`
}

module.exports = {ConnectionConfig, ReaderConfig, joinHostPort, splitHostPort, isString}
