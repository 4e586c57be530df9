'use strict'
// Settings of a client and of topics: those of the crate in JavaScript's names, durations in milliseconds.

const check = require('./check')

/** The crate's name of each setting, and its text for the crate. */
const SETTINGS = {
  maxBufferedBytes: ['max_buffered_bytes', (value, what) => String(check.count(value, what, 0, Number.MAX_SAFE_INTEGER))],
  publishTimeout: ['publish_timeout', duration],
  maxReconnectDelay: ['max_reconnect_delay', duration],
  lookupPollInterval: ['lookup_poll_interval', duration],
  heartbeatInterval: ['heartbeat_interval', duration],
  clientId: ['client_id', check.string],
  userAgent: ['user_agent', check.string],
  compression: ['compression', check.string],
  authSecret: ['auth_secret', check.string],
  extension: ['extension', boolean],
  retry: ['retry', check.string],
  publishTo: ['publish_to', check.string],
  tlsRootCaFile: ['tls_root_ca_file', check.string],
  tlsCertFile: ['tls_cert_file', check.string],
  tlsKeyFile: ['tls_key_file', check.string],
  tlsServerName: ['tls_server_name', check.string],
  tlsInsecure: ['tls_insecure', boolean],
  durability: ['durability', check.string],
  memoryLimit: ['memory_limit', (value, what) => String(check.count(value, what, 0, Number.MAX_SAFE_INTEGER))]
}
const UNITS_MS = {ms: 1, s: 1000, m: 60_000, h: 3_600_000}

/** Most ids that a topic can remember. */
const DEDUP_IDS_MAX = 10_000_000

function duration(value, what) {
  return `${Math.ceil(check.ms(value, what))}ms`
}

function boolean(value, what) {
  if (typeof value !== 'boolean') throw check.invalid(`${what} is ${check.shown(value)}: true or false`)
  return String(value)
}

/** Keys and values in turn for the crate. */
function pairs(options) {
  check.options(options, 'the options of connect', [...Object.keys(SETTINGS), 'traceHeaders'])
  const list = []
  for (const [name, value] of Object.entries(options ?? {})) {
    if (name === 'traceHeaders') continue
    const [key, text] = SETTINGS[name]
    if (value !== undefined) list.push(key, text(value, name))
  }
  return list
}

/** Settings that this side needs too. The URL's win. What the crate refuses fails there. */
function own(url, options) {
  const query = new URLSearchParams(url.slice((url.indexOf('?') + 1) || url.length))
  const {traceHeaders = !/^mqs?(\+lookup)?:\/\//.test(url)} = options ?? {}
  boolean(traceHeaders, 'traceHeaders')
  const [, number, unit] = /^(\d+)(ms|s|m|h)$/.exec(query.get('publish_timeout') ?? '') ?? []
  return {
    // nsqd has no headers.
    traceHeaders,
    publishTimeout: number === undefined ? (options?.publishTimeout ?? 30_000) : Number(number) * UNITS_MS[unit],
    maxBufferedBytes: Number(query.get('max_buffered_bytes') ?? options?.maxBufferedBytes ?? 64 * 2 ** 20)
  }
}

/** Settings of a topic as the addon takes them: what is left out has its default, or its level as it is. */
function ofTopic(given) {
  const known = ['durability', 'maxMessages', 'maxBytes', 'maxAge', 'overflow', 'dedupWindow', 'dedupMaxIds']
  const {durability, maxMessages = 0, maxBytes = 0, maxAge = 0, overflow = 'refuse', dedupWindow, dedupMaxIds} =
    check.options(given, "the topic's settings", known)
  if (durability !== undefined) check.string(durability, 'durability')
  check.count(maxMessages, 'maxMessages', 0, Number.MAX_SAFE_INTEGER)
  check.count(maxBytes, 'maxBytes', 0, Number.MAX_SAFE_INTEGER)
  check.ms(maxAge, 'maxAge')
  check.string(overflow, 'overflow')
  if (dedupWindow !== undefined) check.ms(dedupWindow, 'dedupWindow')
  if (dedupMaxIds !== undefined) check.count(dedupMaxIds, 'dedupMaxIds', 1, DEDUP_IDS_MAX)
  return {durability, maxMessages, maxBytes, maxAgeMs: maxAge, overflow, dedupWindowMs: dedupWindow, dedupMaxIds}
}

module.exports = {pairs, own, ofTopic}
