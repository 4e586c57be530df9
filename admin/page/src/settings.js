// Settings of a topic: shown, and changed on all its nodes.
import {useState} from 'preact/hooks'
import {html} from './html.js'
import {act} from './actions.js'
import {Ask} from './dialog.js'
import {bytes, count, milliseconds} from './format.js'
import {Pairs, Part} from './parts.js'

const limit = (format) => (value) => (value === 0 ? 'no limit' : format(value))

/** Every setting: its key, its name, how it is shown, and the values it may have, or the unit it is typed in
 * and how many of its own units that is. */
const SETTINGS = [
  ['durability', 'Acknowledged when', (value) => LEVELS[value] ?? value, {choices: ['memory', 'flush', 'sync']}],
  ['max_messages', 'Messages at most', limit(count), {unit: 'messages, 0 for no limit'}],
  ['max_bytes', 'Bytes at most', limit(bytes), {unit: 'bytes, 0 for no limit'}],
  ['max_age', 'Age at most', limit(milliseconds), {unit: 'seconds, 0 for no limit', scale: 1000}],
  ['overflow', 'Beyond a limit', (value) => OVERFLOWS[value] ?? value, {choices: ['refuse', 'drop-oldest']}],
  ['dedup_window', 'Duplicates recognised for', milliseconds, {unit: 'seconds', scale: 1000}],
  ['dedup_max_ids', 'Ids remembered', count, {unit: 'ids'}],
]
const LEVELS = {memory: 'in memory', flush: 'written (outlives a kill)', sync: 'synced (outlives a power loss)'}
const OVERFLOWS = {refuse: 'publishes are refused', 'drop-oldest': 'the oldest messages are dropped'}

/** The settings of each node that has some; one list if they agree. */
export function Settings({data}) {
  const nodes = data.nodes.filter(({settings}) => settings)
  if (nodes.length === 0) return null
  const differ = nodes.filter(({settings}) => JSON.stringify(settings) !== JSON.stringify(nodes[0].settings))
  return html`<${Part} title="Settings">
    ${
      differ.length > 0 &&
      html`<p class="notice">The nodes have different settings. Those of ${nodes[0].node} are shown;
      another has ${differ.map(({node}) => node).join(', ')}.</p>`
    }
    <div class="sheet"><${Pairs} pairs=${SETTINGS.filter(([key]) => key in nodes[0].settings).map(([key, name, show]) => [name, show(nodes[0].settings[key])])} /></div>
  </${Part}>`
}

/** A dialog that changes them, on every node that has the topic. Only what was changed is sent. */
export function Configure({data, again, onClose}) {
  const {topic} = data
  const before = data.nodes.find(({settings}) => settings).settings
  const [typed, setTyped] = useState({})
  const change = (key, value) => setTyped({...typed, [key]: value})
  const shownOf = (key, {scale = 1}) => typed[key] ?? String(before[key] / scale)
  const run = async () => {
    const given = SETTINGS.filter(([key]) => key in typed).map(([key, name, , how]) => [
      key,
      how.choices ? typed[key] : whole(name, typed[key], how.scale),
    ])
    const changed = given.filter(([key, value]) => value !== before[key])
    if (changed.length === 0) throw new Error('Nothing is changed yet.')
    await act({action: 'configure', topic, settings: Object.fromEntries(changed)}, `Changed the settings of topic ${topic}`)
    again()
  }
  return html`<${Ask} title=${`Settings of topic ${topic}`} verb="Change" run=${run} onClose=${onClose}>
    <p>They hold on every node that has the topic. With “the oldest messages are dropped”, a lower limit drops what is beyond it at once.</p>
    ${SETTINGS.filter(([key]) => key in before).map(
      ([key, name, show, how]) => html`<div class="field" key=${key}>
      <label for=${`set-${key}`}>${name}</label>
      ${
        how.choices
          ? html`<select id=${`set-${key}`} value=${typed[key] ?? before[key]} onChange=${(event) => change(key, event.target.value)}>
            ${how.choices.map((choice) => html`<option key=${choice} value=${choice}>${show(choice)}</option>`)}</select>`
          : html`<input id=${`set-${key}`} inputmode="numeric" value=${shownOf(key, how)} onInput=${(event) => change(key, event.target.value)}
            aria-describedby=${`set-${key}-unit`} /><span class="hint" id=${`set-${key}-unit`}>${how.unit}</span>`
      }
    </div>`,
    )}
  </${Ask}>`
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
