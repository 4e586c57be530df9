'use strict'
// The context of OpenTelemetry in headers, where the program has registered how it is written.

/** The key under which OpenTelemetry's package keeps what a program registers. */
const REGISTERED = Symbol.for('opentelemetry.js.api.1')

/** OpenTelemetry's package, once it is needed; null where it can't be found from here. */
let api

function registered() {
  if (globalThis[REGISTERED]?.propagation === undefined) return null
  if (api === undefined) {
    try {
      api = require('@opentelemetry/api')
    } catch {
      api = null
    }
  }
  return api
}

/** The context under way as headers: names and values in turn, or undefined if there is none. */
function headersOfContext() {
  const otel = registered()
  if (otel === null) return undefined
  const carrier = {}
  otel.propagation.inject(otel.context.active(), carrier)
  const list = Object.entries(carrier).flat()
  return list.length > 0 ? list : undefined
}

/** Calls `work` in the context of a message's headers. */
function inContextOf(message, work) {
  const otel = registered()
  if (otel === null) return work()
  const {context, propagation} = otel
  return context.with(propagation.extract(context.active(), message.headers), work)
}

module.exports = {headersOfContext, inContextOf}
