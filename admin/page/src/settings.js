// Settings of a topic or a channel: shown, and changed on all its nodes.
import {useState} from 'preact/hooks'
import {html} from './html.js'
import {act} from './actions.js'
import {Ask} from './dialog.js'
import {bytes, count, counted, milliseconds} from './format.js'
import {Pairs, Part} from './parts.js'
import {link} from './route.js'

const limit = (format) => (value) => (value === 0 ? 'no limit' : format(value))

const LEVELS = {memory: 'in memory', flush: 'written (outlives a kill)', sync: 'synced (outlives a power loss)'}
const OVERFLOWS = {refuse: 'publishes are refused', 'drop-oldest': 'the oldest messages are dropped'}

const topicLink = (name) => (name === null ? 'none' : html`<a href=${link(['topics', name])}>${name}</a>`)

/** Every setting: its key, its name, how it is shown, and the values it may have, whether it is a name, or the unit it
 * is typed in and how many of its own units that is. */
const OF_TOPIC = [
  ['durability', 'Acknowledged when', (value) => LEVELS[value] ?? value, {choices: ['memory', 'flush', 'sync']}],
  ['max_messages', 'Messages at most', limit(count), {unit: 'messages, 0 for no limit'}],
  ['max_bytes', 'Bytes at most', limit(bytes), {unit: 'bytes, 0 for no limit'}],
  ['max_age', 'Age at most', limit(milliseconds), {unit: 'seconds, 0 for no limit', scale: 1000}],
  ['overflow', 'Beyond a limit', (value) => OVERFLOWS[value] ?? value, {choices: ['refuse', 'drop-oldest']}],
  ['dedup_window', 'Duplicates recognised for', milliseconds, {unit: 'seconds', scale: 1000}],
  ['dedup_max_ids', 'Ids remembered', count, {unit: 'ids'}],
]
const OF_CHANNEL = [
  ['max_attempts', 'Deliveries at most', limit(count), {unit: 'of one message, 0 for no limit'}],
  ['dead_letter_topic', 'Dead letter topic', topicLink, {isName: true, unit: 'where it goes then, empty for none'}],
  [
    'redelivery_delay',
    'Waits if its consumer is lost',
    (value) => (value === 0 ? 'not at all' : `${milliseconds(value)} for each delivery it had`),
    {unit: 'seconds for each delivery it had', scale: 1000},
  ],
]
const settingsOf = ({channel}) => (channel === undefined ? OF_TOPIC : OF_CHANNEL)

/** The settings of each node that has some; one list if they agree. `more` are pairs below them. */
export function Settings({data, more = []}) {
  const nodes = data.nodes.filter(({settings}) => settings)
  if (nodes.length === 0) return null
  const differ = nodes.filter(({settings}) => JSON.stringify(settings) !== JSON.stringify(nodes[0].settings))
  return html`<${Part} title="Settings">
    ${
      differ.length > 0 &&
      html`<p class="notice">The nodes have different settings. Those of ${nodes[0].node} are shown;
      another has ${differ.map(({node}) => node).join(', ')}.</p>`
    }
    <div class="sheet"><${Pairs} pairs=${[...settingsOf(data).filter(([key]) => key in nodes[0].settings).map(([key, name, show]) => [name, show(nodes[0].settings[key])]), ...more]} /></div>
  </${Part}>`
}

/** A dialog that changes them, on every node that has the topic or channel. Only what was changed is sent. */
export function Configure({data, again, onClose}) {
  const {topic, channel} = data
  const known = settingsOf(data)
  const what = channel === undefined ? `topic ${topic}` : `channel ${channel}`
  const before = data.nodes.find(({settings}) => settings).settings
  const [typed, setTyped] = useState({})
  const change = (key, value) => setTyped({...typed, [key]: value})
  const shownOf = (key, {isName, scale = 1}) => typed[key] ?? (isName ? (before[key] ?? '') : String(before[key] / scale))
  const run = async () => {
    const given = known.filter(([key]) => key in typed).map(([key, name, , how]) => [
      key,
      valueOf(name, typed[key], how),
    ])
    const changed = given.filter(([key, value]) => value !== before[key])
    if (changed.length === 0) throw new Error('Nothing is changed yet.')
    const action = channel === undefined ? {action: 'configure_topic', topic} : {action: 'configure_channel', topic, channel}
    await act({...action, settings: Object.fromEntries(changed)}, `Changed the settings of ${what}`)
    again()
  }
  return html`<${Ask} title=${`Settings of ${what}`} verb="Change" run=${run} onClose=${onClose}>
    <p>${
      channel === undefined
        ? 'They hold on every node that has the topic. With “the oldest messages are dropped”, a lower limit drops what is beyond it at once.'
        : 'They hold on every node that has the channel, for what comes back unfinished from then on. A limit needs a topic for what reaches it, and who sets that must be allowed to publish there.'
    }</p>
    ${known.filter(([key]) => key in before).map(
      ([key, name, show, how]) => html`<div class="field" key=${key}>
      <label for=${`set-${key}`}>${name}</label>
      ${
        how.choices
          ? html`<select id=${`set-${key}`} value=${typed[key] ?? before[key]} onChange=${(event) => change(key, event.target.value)}>
            ${how.choices.map((choice) => html`<option key=${choice} value=${choice}>${show(choice)}</option>`)}</select>`
          : html`<input id=${`set-${key}`} inputmode=${how.isName ? 'text' : 'numeric'} autocomplete="off" spellcheck=${false} value=${shownOf(key, how)} onInput=${(event) => change(key, event.target.value)}
            aria-describedby=${`set-${key}-unit`} /><span class="hint" id=${`set-${key}-unit`}>${how.unit}</span>`
      }
    </div>`,
    )}
  </${Ask}>`
}

/** A setting's value as it was typed or chosen. */
function valueOf(name, text, {choices, isName, scale}) {
  if (choices) return text
  return isName ? text.trim() || null : whole(name, text, scale)
}

/** What was typed in a unit, in the setting's own: a whole number from 0 on. */
function whole(name, text, scale = 1) {
  const value = /^\d+(\.\d+)?$/.test(text.trim()) ? Math.round(Number(text) * scale * 1000) / 1000 : NaN
  if (!Number.isSafeInteger(value))
    throw new Error(
      `${name}: ${JSON.stringify(text)} is no whole number from 0 on${scale === 1 ? '' : `, nor thousandths of one`}.`,
    )
  return value
}
