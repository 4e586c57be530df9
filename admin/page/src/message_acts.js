// What can be done to one message of a channel: have it delivered again, or drop it.
import {useState} from 'preact/hooks'
import {html} from './html.js'
import {act} from './actions.js'
import {Ask} from './dialog.js'
import {bytes, counted, moment} from './format.js'

/** Words for where a message is. */
const PLACES = {in_flight: 'at a consumer', deferred: 'deferred', waiting: 'waiting'}

export function MessageActs({of, message, again}) {
  const [asked, setAsked] = useState(null)
  const {id, state} = message
  const close = () => setAsked(null)
  const change = async (action, done) => {
    await act({action, ...of, message: id}, done)
    again()
  }
  return html`<span class="end">
      ${state !== 'waiting' && html`<button type="button" aria-label=${`Deliver message ${id} again`} onClick=${() => setAsked('requeue')}>Deliver again…</button>`}
      <button type="button" class="risk" aria-label=${`Drop message ${id}`} onClick=${() => setAsked('drop')}>Drop…</button>
    </span>
    ${
      asked === 'requeue' &&
      html`<${Ask} title="Deliver this message again" verb="Deliver again" onClose=${close}
      run=${() => change('requeue_message', `Message ${id} is delivered again`)}>
      <p>Message <span class="mono">${id}</span> of ${of.topic} / ${of.channel} is ${PLACES[state]}, with ${counted(message.attempts, 'attempt')} so far.
        ${
          state === 'in_flight'
            ? 'It is taken from the consumer that holds it, whose answer will come too late, and goes behind all that waits.'
            : 'It goes behind all that waits, at once; one that was published for later keeps its time.'
        }</p>
    </${Ask}>`
    }
    ${
      asked === 'drop' &&
      html`<${Ask} title="Drop this message" verb="Drop the message" risk lost=${[lost(of, message)]} onClose=${close}
      run=${() => change('drop_message', `Dropped message ${id}`)}>
      ${state === 'in_flight' && html`<p>It is at a consumer, which may be working on it: its answer will come too late.</p>`}
    </${Ask}>`
    }`
}

const lost = (of, {id, time, size}) =>
  `message ${id}, ${bytes(size)}, published ${moment(time)}, for channel ${of.channel}; other channels of ${of.topic} keep it`
