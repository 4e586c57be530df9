// The way in: a token once, a cookie that scripts cannot read from then on.
import {useEffect, useRef, useState} from 'preact/hooks'
import {html} from '../html.js'
import {logIn} from '../api.js'
import {Head} from '../parts.js'

export function Login({onDone}) {
  const [token, setToken] = useState('')
  const [error, setError] = useState(null)
  const [busy, setBusy] = useState(false)
  const field = useRef(null)
  useEffect(() => field.current.focus(), [])
  const submit = async (event) => {
    event.preventDefault()
    setBusy(true)
    setError(null)
    try {
      await logIn(token)
      setToken('')
      await onDone()
    } catch (failure) {
      setError(failure.status === 401 ? 'No such token.' : failure.message)
      setBusy(false)
    }
  }
  return html`<div class="login">
    <${Head} title="Log in" />
    <p>This server asks for a token: one of those its HTTP API takes.</p>
    <form class="sheet form" onSubmit=${submit}>
      <div class="field"><label for="token">Token</label>
        <input id="token" ref=${field} type="password" autocomplete="current-password" value=${token} onInput=${(event) => setToken(event.target.value)} /></div>
      ${error && html`<p class="notice bad" role="alert">${error}</p>`}
      <button type="submit" class="main" disabled=${busy || token === ''}>Log in</button>
    </form>
    <p class="soft small">The browser keeps a cookie for this page for 12 hours, and the token nowhere.</p>
  </div>`
}
