// Dialogs that create a topic or a channel.
import {useState} from 'preact/hooks'
import {html} from './html.js'
import {act} from './actions.js'
import {Ask} from './dialog.js'
import {go, link} from './route.js'

/** The rule of names, so that a wrong one is seen before it is sent. */
const NAME = /^[.a-zA-Z0-9_-]{1,64}(#ephemeral)?$/
const RULE = 'At most 64 of letters, digits, dot, dash and underscore; “#ephemeral” may follow.'

/** Whether a name is one, of 64 characters with its suffix. */
export const isName = (name) => NAME.test(name) && name.length <= 64

export function CreateTopic({onClose}) {
  const [topic, setTopic] = useState('')
  const run = async () => {
    check(topic)
    await act({action: 'create_topic', topic}, `Created topic ${topic}`)
    go(link(['topics', topic]))
  }
  return html`<${Ask} title="Create a topic" verb="Create" run=${run} onClose=${onClose}>
    <${Name} id="create-topic" label="Name of the topic" value=${topic} onInput=${setTopic} />
  </${Ask}>`
}

export function CreateChannel({topic, onClose, again}) {
  const [channel, setChannel] = useState('')
  const run = async () => {
    check(channel)
    await act({action: 'create_channel', topic, channel}, `Created channel ${channel} of ${topic}`)
    again()
  }
  return html`<${Ask} title=${`Create a channel of ${topic}`} verb="Create" run=${run} onClose=${onClose}>
    <p>It gets a copy of every message published from now on, and keeps it until a consumer finishes it.</p>
    <${Name} id="create-channel" label="Name of the channel" value=${channel} onInput=${setChannel} />
  </${Ask}>`
}

function check(name) {
  if (!isName(name)) throw new Error(`${JSON.stringify(name)} is no name. ${RULE}`)
}

function Name({id, label, value, onInput}) {
  return html`<div class="field"><label for=${id}>${label}</label>
    <input id=${id} autocomplete="off" spellcheck=${false} aria-describedby=${`${id}-rule`} value=${value} onInput=${(event) => onInput(event.target.value)} />
    <span class="hint" id=${`${id}-rule`}>${RULE}</span></div>`
}
