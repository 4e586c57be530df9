// The server's API under `data/`. Paths are relative: the page works under any prefix.

/** An answer that is an error, or none at all (`status` 0). `message` is for people, `results` is node by node. */
export class Failure extends Error {
  constructor(status, code, message, results = []) {
    super(message)
    this.status = status
    this.code = code
    this.results = results
  }
}

/** Sentences for codes that come without one. */
const SENTENCES = {
  UNAUTHORIZED: 'Your login is over: log in again.',
  FORBIDDEN: 'Your token does not have the right to do this.',
  TOPIC_NOT_FOUND: 'There is no such topic.',
  CHANNEL_NOT_FOUND: 'There is no such channel.',
  NODE_NOT_FOUND: 'There is no such node.',
  UPSTREAM_ERROR: 'No broker or lookup server answers.',
  TOO_MANY: 'Too many requests: wait a moment.',
}

/** The request whose 401 means a wrong token, not the end of a login. */
const LOGIN = 'data/login'

const listeners = new Set()

/** Calls `heard` whenever an answer says that nobody is logged in. Returns what ends that. */
export function onLoggedOut(heard) {
  listeners.add(heard)
  return () => listeners.delete(heard)
}

export const get = (path, signal) => request('GET', path, undefined, signal)
/** Logs in with a token. The server keeps it; the browser gets a cookie that scripts cannot read. */
export const logIn = (token) => request('POST', LOGIN, {token})
export const post = (path, body = {}) => request('POST', path, body)

async function request(method, path, body, signal) {
  const options = {method, signal, credentials: 'same-origin', cache: 'no-store', redirect: 'error'}
  if (body !== undefined) {
    options.body = JSON.stringify(body)
    options.headers = {'Content-Type': 'application/json'}
  }
  let answer
  try {
    answer = await fetch(path, options)
  } catch (error) {
    if (error.name === 'AbortError') throw error
    throw new Failure(0, 'UNREACHABLE', 'The server does not answer. The page asks again by itself.')
  }
  const text = await answer.text()
  const value = parsed(text)
  if (answer.status === 202) return {pending: value}
  if (answer.ok) return value
  const {message: code = `HTTP_${answer.status}`, detail, results} = value ?? {}
  const sentence = detail || SENTENCES[code] || `The server answered ${answer.status} ${code}.`
  const failure = new Failure(answer.status, code, sentence, results)
  if (answer.status === 401 && path !== LOGIN) for (const heard of listeners) heard()
  throw failure
}

function parsed(text) {
  try {
    return JSON.parse(text)
  } catch {
    return null
  }
}
