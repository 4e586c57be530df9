// The frame of the page: the bar, the place that is shown, what is said after an action.
import {render} from 'preact'
import {useCallback, useEffect, useErrorBoundary, useLayoutEffect, useRef, useState} from 'preact/hooks'
import {onSaid} from './actions.js'
import {get, onLoggedOut, post} from './api.js'
import {html} from './html.js'
import {Channel} from './pages/channel.js'
import {Login} from './pages/login.js'
import {Lookup} from './pages/lookup.js'
import {Node} from './pages/node.js'
import {Nodes} from './pages/nodes.js'
import {Overview} from './pages/overview.js'
import {Peek} from './pages/peek.js'
import {Topic} from './pages/topic.js'
import {Topics} from './pages/topics.js'
import {Head} from './parts.js'
import {go, link, parse, useRoute} from './route.js'
import {SessionOf} from './session.js'

/** Milliseconds that a line about an action stays. */
const SAID = 8_000
/** Milliseconds until the server is asked again who we are. */
const RETRY = 3_000

const PLACES = [
  ['Overview', ''],
  ['Topics', 'topics'],
  ['Nodes', 'nodes'],
  ['Lookup', 'lookup'],
]

function App() {
  const [me, setMe] = useState(null)
  const [error, setError] = useState(null)
  const route = useRoute()
  const ask = useCallback(async () => {
    try {
      setMe(await get('data/me'))
      setError(null)
    } catch (failure) {
      setError(failure)
    }
  }, [])
  useEffect(() => {
    ask()
    return onLoggedOut(ask)
  }, [])
  useEffect(() => {
    const timer = error && setTimeout(ask, RETRY)
    return () => clearTimeout(timer)
  }, [error])
  const logOut = async () => {
    await post('data/logout').catch(() => {})
    await ask()
  }
  const mustLogIn = me?.login === 'needed'
  useEffect(() => {
    if (me && !mustLogIn && route.parts[0] === 'login') go(link([]))
  }, [me, route])
  return html`<${SessionOf} value=${{me}}>
    <button type="button" class="skip" onClick=${() => document.querySelector('main').focus()}>Skip to the content</button>
    <${Bar} me=${me} first=${route.parts[0]} logOut=${logOut} />
    <${Main} route=${route}>
      ${error && !me && html`<p class="notice bad" role="alert">${error.message}</p>`}
      ${!me && !error && html`<p class="soft">Loading…</p>`}
      ${mustLogIn && html`<${Login} onDone=${ask} />`}
      ${me && !mustLogIn && html`<${Guard} key=${route.parts.join('/')}><${Place} route=${route} /></${Guard}>`}
    </${Main}>
    <${Said} place=${route.parts.join('/')} />
  </${SessionOf}>`
}

function Bar({me, first, logOut}) {
  return html`<header class="bar"><div class="bar-in">
    <a class="brand" href=${link([])}>mq</a>
    <nav aria-label="Pages">${PLACES.map(
      ([name, part]) => html`<a key=${part} href=${link(part ? [part] : [])}
      aria-current=${isAt(part, first) ? 'page' : undefined}>${name}</a>`,
    )}</nav>
    <div class="end">
      ${me?.name && html`<span>${me.name}</span>`}${me?.version && html`<span>${me.version}</span>`}
      ${me?.read_only && html`<span class="tag">read only</span>`}
      ${me?.login === 'in' && html`<button type="button" class="plain" onClick=${logOut}>Log out</button>`}
    </div>
  </div></header>`
}

const isAt = (part, first = '') => part === first || (part === 'topics' && first === 'peek')

/** The content. The focus moves to it with the place, before either is drawn, so that a screen reader begins there. */
function Main({route, children}) {
  const main = useRef(null)
  const place = route.parts.join('/')
  const before = useRef(place)
  useLayoutEffect(() => {
    if (before.current === place) return
    before.current = place
    main.current.focus({preventScroll: true})
    scrollTo(0, 0)
  }, [place])
  return html`<main ref=${main} tabindex="-1">${children}</main>`
}

/** Says so where a page fails to draw an answer, instead of showing nothing. */
function Guard({children}) {
  const [error] = useErrorBoundary()
  if (!error) return children
  return html`<p class="notice bad" role="alert">This page could not be drawn: ${error.message}. That is a fault of the page;
    the broker is not affected. <a href="">Load it again</a>.</p>`
}

/** The page for a place. Its key makes another place start anew. */
function Place({route: {parts, parameters}}) {
  const [first, second, third] = parts
  const key = parts.join('/')
  if (first === undefined || first === 'login') return html`<${Overview} key=${key} parameters=${parameters} />`
  if (first === 'topics' && third)
    return html`<${Channel} key=${key} topic=${second} channel=${third} parameters=${parameters} />`
  if (first === 'topics' && second) return html`<${Topic} key=${key} topic=${second} parameters=${parameters} />`
  if (first === 'topics') return html`<${Topics} key=${key} parameters=${parameters} />`
  if (first === 'nodes' && second) return html`<${Node} key=${key} node=${second} parameters=${parameters} />`
  if (first === 'nodes') return html`<${Nodes} key=${key} parameters=${parameters} />`
  if (first === 'lookup') return html`<${Lookup} key=${key} />`
  if (first === 'peek' && second) return html`<${Peek} key=${key} topic=${second} parameters=${parameters} />`
  return html`<${Head} title="No such page" /><p>Nothing is at this address. <a href=${link([])}>The overview</a> shows what there is.</p>`
}

/** What came of an action, until another place is shown than the one that the action led to. */
function Said({place}) {
  const [text, setText] = useState('')
  const of = useRef(place)
  useEffect(() => onSaid(setText), [])
  useEffect(() => {
    // An action that leads to another place has done so by now.
    of.current = parse(location.hash).parts.join('/')
  }, [text])
  useEffect(() => {
    if (text && place !== of.current) setText('')
  }, [place])
  useEffect(() => {
    const timer = text && setTimeout(() => setText(''), SAID)
    return () => clearTimeout(timer)
  }, [text])
  return html`<div class="toast" role="status" aria-live="polite">${text}</div>`
}

render(html`<${App} />`, document.getElementById('page'))
