// Places of the page, behind the `#`: `#/topics/orders/billing?show=peek`. They can be shared and kept.
import {useEffect, useState} from 'preact/hooks'

/** The address of a place. Each part of the path is escaped; empty parameters are left out. */
export function link(parts, parameters = {}) {
  const path = parts.map(encodeURIComponent).join('/')
  const query = new URLSearchParams(Object.entries(parameters).filter(([, value]) => value !== '' && value != null))
  const text = query.toString()
  return `#/${path}${text ? `?${text}` : ''}`
}

/** The place that an address stands for: parts of the path, and parameters. */
export function parse(hash) {
  const [path, query = ''] = hash.replace(/^#?\/?/, '').split(/\?(.*)/s)
  const parts = path
    .split('/')
    .filter((part) => part !== '')
    .map(unescape)
  return {parts, parameters: Object.fromEntries(new URLSearchParams(query))}
}

function unescape(part) {
  try {
    return decodeURIComponent(part)
  } catch {
    return part
  }
}

export const go = (address) => {
  location.hash = address
}

/** Changes parameters of the place shown, without a step of its own in the browser's history. */
export function adjust(changes) {
  const {parts, parameters} = parse(location.hash)
  history.replaceState(null, '', link(parts, {...parameters, ...changes}))
  dispatchEvent(new HashChangeEvent('hashchange'))
}

export function useRoute() {
  const [route, setRoute] = useState(() => parse(location.hash))
  useEffect(() => {
    const changed = () => setRoute(parse(location.hash))
    addEventListener('hashchange', changed)
    return () => removeEventListener('hashchange', changed)
  }, [])
  return route
}
