// Data of a place, fetched again while somebody looks.
import {useCallback, useEffect, useRef, useState} from 'preact/hooks'
import {get} from './api.js'
import {useMe} from './session.js'

/** The longest pause after failures: a server that is back is seen within it. */
const STEP_MAX = 15_000

/**
 * Fetches `path` now, on `again()`, and while the page is visible as often as the server says, or every `every`
 * milliseconds. An `every` of `null` is never.
 *
 * `data` stays when a fetch fails, or until an answer to other parameters is there; `error` says what failed. An
 * answer that is not wanted any more is dropped.
 */
export function usePoll(path, parameters = {}, every = undefined) {
  const me = useMe()
  const step = every === undefined ? me.poll_seconds * 1000 : every
  const query = new URLSearchParams(Object.entries(parameters).filter(([, value]) => value !== '' && value != null)).toString()
  const key = query ? `${path}?${query}` : path
  const [state, setState] = useState({data: null, error: null})
  const now = useRef(() => {})
  useEffect(() => {
    let timer = null
    let failures = 0
    let stop = new AbortController()
    let isOver = false
    const fetchIt = async () => {
      clearTimeout(timer)
      stop.abort()
      stop = new AbortController()
      const {signal} = stop
      try {
        const data = await get(key, signal)
        if (signal.aborted) return
        failures = 0
        setState({data, error: null})
      } catch (error) {
        if (signal.aborted) return
        // An answer like `no such topic` costs the server nothing.
        if (error.status === 0 || error.status >= 500) failures += 1
        setState(({data}) => ({data, error}))
      }
      plan()
    }
    const plan = () => {
      clearTimeout(timer)
      if (isOver || document.hidden || step === null) return
      timer = setTimeout(fetchIt, Math.min(step * 2 ** failures, STEP_MAX))
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
