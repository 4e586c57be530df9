// What people do, and how the page says what came of it.
import {post} from './api.js'

const listeners = new Set()

/** Shows a line for some seconds; screen readers read it. */
export function say(text) {
  for (const heard of listeners) heard(text)
}

export function onSaid(heard) {
  listeners.add(heard)
  return () => listeners.delete(heard)
}

/** Does an action and says `done`, or what failed on some of the nodes. Throws if it failed on all. */
export async function act(body, done) {
  try {
    const {message} = await post('data/action', body)
    say(message ? `${done} in part. ${message}` : `${done}.`)
  } catch (failure) {
    const nodes = failure.results?.filter(({error}) => error).map(({node, error}) => `${node}: ${error}`) ?? []
    if (nodes.length > 0 && !nodes.some((line) => failure.message.includes(line))) {
      failure.message = [failure.message, ...nodes.slice(0, 5)].join(' ')
    }
    throw failure
  }
}

/** The same where no dialog shows the failure. */
export async function actNow(body, done, again) {
  try {
    await act(body, done)
  } catch (failure) {
    say(`Failed: ${failure.message}`)
  }
  again?.()
}
