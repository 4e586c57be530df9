// Dialogs, on the browser's own modal `<dialog>`: it keeps the focus inside, closes on Escape, gives the focus back.
import {useEffect, useRef, useState} from 'preact/hooks'
import {html} from './html.js'

export function Dialog({title, onClose, children}) {
  const dialog = useRef(null)
  useEffect(() => {
    dialog.current.showModal()
  }, [])
  return html`<dialog ref=${dialog} aria-labelledby="dialog-title" onClose=${onClose}>
    <h2 id="dialog-title">${title}</h2>
    ${children}
  </dialog>`
}

/**
 * Asks before something is done, and shows why it failed.
 *
 * `lost` lists what is gone afterwards. With `name`, that has to be typed first. `run` does it.
 */
export function Ask({title, lost = [], name, verb, risk, run, onClose, children}) {
  const [typed, setTyped] = useState('')
  const [busy, setBusy] = useState(false)
  const [error, setError] = useState(null)
  const submit = async (event) => {
    event.preventDefault()
    setBusy(true)
    setError(null)
    try {
      await run()
      onClose()
    } catch (failed) {
      setError(failed.message)
      setBusy(false)
    }
  }
  const mayNot = busy || (name !== undefined && typed !== name)
  return html`<${Dialog} title=${title} onClose=${onClose}>
    <form onSubmit=${submit} class="after-title">
      ${children}
      ${
        lost.length > 0 &&
        html`<div><p>This can’t be undone. Lost will be:</p>
        <ul>${lost.map((line) => html`<li key=${line}>${line}</li>`)}</ul></div>`
      }
      ${
        name !== undefined &&
        html`<div class="field">
        <label for="dialog-name">Type <strong>${name}</strong> to go on</label>
        <input id="dialog-name" autocomplete="off" spellcheck=${false} value=${typed}
          onInput=${(event) => setTyped(event.target.value)} />
      </div>`
      }
      ${error && html`<p class="notice bad" role="alert">${error}</p>`}
      <div class="acts">
        <button type="button" onClick=${onClose}>Cancel</button>
        <button type="submit" class=${risk ? 'main risk' : 'main'} disabled=${mayNot}>${verb}</button>
      </div>
    </form>
  </${Dialog}>`
}
