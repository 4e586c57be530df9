// Data of a place, fetched again while somebody looks.
import {useCallback, useEffect, useRef, useState} from 'preact/hooks'
import {get} from './api.js'
import {useMe} from './session.js'

/** Milliseconds between two fetches while the server reads a fleet for the first time. */
const READING = 300
/** The longest pause after failures: a server that is back is seen within it. */
const STEP_MAX = 15_000

/**
 * Fetches `path` now, on `again()`, and while the page is visible as often as the server says, or every `every`
 * milliseconds. An `every` of `null` is never.
 *
 * `data` stays when a fetch fails, or until an answer to other parameters is there; `error` says what failed. An
 * answer that is not wanted any more is dropped. `reading` says how many nodes have answered, `{ done, of }`, while
 * the server has not read all of them; lists show those that have, other places have no `data` before.
 */
export function usePoll(path, parameters = {}, every = undefined) {
  const me = useMe()
  const step = every === undefined ? me.poll_seconds * 1000 : every
  const query = new URLSearchParams(Object.entries({...parameters, partial: 1}).filter(([, value]) => value !== '' && value != null)).toString()
  const key = `${path}?${query}`
  const [state, setState] = useState({data: null, error: null, reading: null})
  const now = useRef(() => {})
  useEffect(() => {
    let timer = null
    let failures = 0
    let reading = null
    let stop = new AbortController()
    let isOver = false
    const fetchIt = async () => {
      clearTimeout(timer)
      stop.abort()
      stop = new AbortController()
      const {signal} = stop
      try {
        const answer = await get(key, signal)
        if (signal.aborted) return
        failures = 0
        const {pending} = answer
        reading = (pending ?? answer).reading ?? null
        setState(({data}) => ({data: pending ? data : answer, error: null, reading}))
      } catch (error) {
        if (signal.aborted) return
        // An answer like `no such topic` costs the server nothing.
        if (error.status === 0 || error.status >= 500) failures += 1
        reading = null
        setState(({data}) => ({data, error, reading}))
      }
      plan()
    }
    const plan = () => {
      clearTimeout(timer)
      if (isOver || document.hidden || (step === null && !reading)) return
      timer = setTimeout(fetchIt, reading ? READING : Math.min(step * 2 ** failures, STEP_MAX))
    }
    const seen = () => (document.hidden ? clearTimeout(timer) : fetchIt())
    now.current = fetchIt
    fetchIt()
    document.addEventListener('visibilitychange', seen)
    return () => {
      isOver = true
      clearTimeout(timer)
      stop.abort()
      document.removeEventListener('visibilitychange', seen)
    }
  }, [key, step])
  const again = useCallback(() => now.current(), [])
  return {...state, again}
}
