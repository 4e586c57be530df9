// A dialog that publishes a test message.
import {useState} from 'preact/hooks'
import {html} from './html.js'
import {act} from './actions.js'
import {Ask} from './dialog.js'

export function Publish({data, again, onClose}) {
  const {topic, nodes} = data
  const [body, setBody] = useState('')
  const [headers, setHeaders] = useState('')
  const [node, setNode] = useState('')
  const [seconds, setSeconds] = useState('')
  const run = async () => {
    const message = {action: 'publish', topic, body, node: node || undefined}
    if (body === '') throw new Error('The message is empty: brokers refuse that.')
    if (headers.trim()) message.headers = parsed(headers)
    if (seconds !== '') message.defer_ms = Math.round(Number(seconds) * 1000)
    if (message.defer_ms !== undefined && !(message.defer_ms >= 0)) throw new Error('The delay is a number of seconds.')
    await act(message, `Published a message to ${topic}`)
    again()
  }
  return html`<${Ask} title=${`Publish to ${topic}`} verb="Publish" run=${run} onClose=${onClose}>
    <p>Every channel gets it, and its consumers work on it like on any other.</p>
    <div class="field"><label for="publish-body">Body, as text</label>
      <textarea id="publish-body" rows="5" spellcheck=${false} value=${body} onInput=${(event) => setBody(event.target.value)}></textarea></div>
    <div class="field"><label for="publish-headers">Headers, one a line: name: value</label>
      <textarea id="publish-headers" rows="2" spellcheck=${false} value=${headers} onInput=${(event) => setHeaders(event.target.value)}></textarea></div>
    <div class="row">
      <div class="field grow"><label for="publish-node">Node</label>
        <select id="publish-node" value=${node} onChange=${(event) => setNode(event.target.value)}>
          <option value="">any</option>${nodes.map((each) => html`<option key=${each.node} value=${each.node}>${each.node}</option>`)}</select></div>
      <div class="field grow"><label for="publish-defer">Deliver after, in seconds</label>
        <input id="publish-defer" inputmode="decimal" placeholder="0" value=${seconds} onInput=${(event) => setSeconds(event.target.value)} /></div>
    </div>
  </${Ask}>`
}

/** Headers out of lines of `name: value`. */
function parsed(text) {
  const lines = text.split('\n').filter((line) => line.trim() !== '')
  return Object.fromEntries(
    lines.map((line) => {
      const at = line.indexOf(':')
      if (at < 1) throw new Error(`The header ${JSON.stringify(line)} has no name before a colon.`)
      return [line.slice(0, at).trim(), line.slice(at + 1).trim()]
    }),
  )
}
