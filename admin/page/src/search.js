// A field that searches as one types.
import {useEffect, useRef, useState} from 'preact/hooks'
import {html} from './html.js'

/** Milliseconds between the last key and the search. */
const TYPING = 150

/** Calls `onSearch` a moment after the last key. What is typed is kept here, so that a late answer does not overwrite it. */
export function Search({label, value, onSearch}) {
  const [typed, setTyped] = useState(value)
  const timer = useRef(null)
  const sent = useRef(value)
  useEffect(() => {
    if (value === sent.current) return
    sent.current = value
    setTyped(value)
  }, [value])
  useEffect(() => () => clearTimeout(timer.current), [])
  const onInput = ({target}) => {
    setTyped(target.value)
    clearTimeout(timer.current)
    timer.current = setTimeout(() => {
      sent.current = target.value
      onSearch(target.value)
    }, TYPING)
  }
  return html`<input class="grow" type="search" aria-label=${label} placeholder=${label} autocomplete="off" spellcheck=${false}
    value=${typed} onInput=${onInput} />`
}
