// Messages of a topic or of one of its channels on one node, oldest first, without taking them.
import {useEffect} from 'preact/hooks'
import {html} from '../html.js'
import {MessageActs} from '../message_acts.js'
import {bodyText, has, Marked, VIEWS} from '../body.js'
import {bytes, count, counted, moment} from '../format.js'
import {Choice, Head, State, Tag} from '../parts.js'
import {usePoll} from '../poll.js'
import {adjust, link} from '../route.js'
import {Search} from '../search.js'
import {useMayAct} from '../session.js'

const LIMITS = ['20', '50', '100']

export function Peek({topic, parameters}) {
  const known = usePoll('data/topic', {topic}, null)
  const nodes = known.data?.nodes.map(({node}) => node) ?? []
  const channels = known.data?.channels.map(({channel}) => channel) ?? []
  // Only brokers of libmq can be peeked at, and only they have settings.
  const node = parameters.node ?? known.data?.nodes.find(({settings}) => settings)?.node ?? nodes[0]
  return html`<${Head} crumbs=${[
    ['Topics', link(['topics'])],
    [topic, link(['topics', topic])],
  ]} title=${`Peek at ${topic}`}>
    </${Head}>
    ${!known.data && html`<${State} poll=${known} />`}
    ${known.data && nodes.length === 0 && html`<p class="soft">No node has this topic.</p>`}
    ${node && html`<${Messages} key=${node} topic=${topic} node=${node} nodes=${nodes} channels=${channels} parameters=${parameters} />`}`
}

function Messages({topic, node, nodes, channels, parameters}) {
  const {channel = '', from = '', limit = '20', view = 'text', find = ''} = parameters
  const poll = usePoll('data/peek', {topic, channel, node, from, limit}, null)
  const {data} = poll
  const mayAct = useMayAct()
  const shown = data?.messages.filter((message) => has(message, find, view)) ?? []
  useEffect(() => scrollTo(0, 0), [from])
  return html`<form class="row" onSubmit=${(event) => event.preventDefault()}>
      <${Select} label="Messages of" value=${channel} values=${['', ...channels]} word=${(each) => each || 'all that is stored'}
        onSelect=${(value) => adjust({channel: value, from: ''})} />
      <${Select} label="Node" value=${node} values=${nodes} onSelect=${(value) => adjust({node: value, from: ''})} />
      <${Select} label="At most" value=${limit} values=${LIMITS} onSelect=${(value) => adjust({limit: value})} />
      <${Choice} label="Bodies as" value=${view} choices=${VIEWS} onChoose=${(value) => adjust({view: value === 'text' ? '' : value})} />
      <${Search} label="Search in what is shown" value=${find} onSearch=${(words) => adjust({find: words})} />
    </form>
    <${State} poll=${poll} />
    ${
      data &&
      html`<div class="row"><p class="soft" aria-live="polite">${found(data.messages.length, shown.length, find)}</p>
        ${mayAct && channel === '' && data.messages.length > 0 && html`<p class="soft small">Choose a channel to deliver a message again or to drop it.</p>`}
        <${Steps} data=${data} from=${from} again=${poll.again} /></div>
      <div class="list">${shown.map(
        (message) => html`<${Message} key=${message.id} message=${message} view=${view} find=${find}
        acts=${mayAct && channel !== '' && html`<${MessageActs} of=${{topic, channel, node}} message=${message} again=${poll.again} />`} />`,
      )}</div>
      ${shown.length > 5 && html`<div class="row"><${Steps} data=${data} from=${from} again=${poll.again} /></div>`}`
    }`
}

/** One of several. The one chosen is among them in any case: an address may name one that is gone. */
function Select({label, value, values, word = (each) => each, onSelect}) {
  const all = values.includes(value) ? values : [value, ...values]
  return html`<label class="soft small">${label} <select value=${value} onChange=${(event) => onSelect(event.target.value)}>
    ${all.map((each) => html`<option key=${each} value=${each}>${word(each)}</option>`)}</select></label>`
}

function found(all, shown, find) {
  if (all === 0) return 'No message from here on.'
  return find === '' ? counted(all, 'message') : `${count(shown)} of ${counted(all, 'message')} with ${JSON.stringify(find)}`
}

function Steps({data, from, again}) {
  return html`${from !== '' && html`<button type="button" onClick=${() => adjust({from: ''})}>From the oldest</button>`}
    <button type="button" onClick=${again}>Read again</button>
    <button type="button" disabled=${!data.next || data.messages.length === 0} onClick=${() => adjust({from: data.next})}>Next</button>`
}

function Message({message, view, find, acts}) {
  const {id, time, attempts, size, truncated, headers, state} = message
  const body = bodyText(message, view)
  return html`<article class="message" aria-label=${`Message ${id}`}>
    <header><b class="mono"><${Marked} text=${id} words=${find} /></b><span>${moment(time)}</span><span>${bytes(size)}</span>
      ${state && html`<${Tag} kind=${state === 'waiting' ? '' : 'good'}>${state.replaceAll('_', ' ')}</${Tag}>`}
      ${attempts > 0 && html`<span>${counted(attempts, 'attempt')}</span>`}${truncated && html`<${Tag} kind="warn">cut: only the beginning</${Tag}>`}
      ${body.view !== view && html`<${Tag}>${body.view === 'hex' ? 'no text: hex' : 'no JSON: text'}</${Tag}>`}${acts}</header>
    ${
      headers?.length > 0 &&
      html`<h3 class="caption">Headers</h3><dl class="pairs" aria-label="Headers">${headers.map(({name, value}) => [
        html`<dt><${Marked} text=${name} words=${find} /></dt>`,
        html`<dd class="mono"><${Marked} text=${value} words=${find} /></dd>`,
      ])}</dl>`
    }
    <pre class=${body.view} tabindex="0" aria-label="Body">${html`<${Marked} text=${body.text} words=${find} />`}</pre>
  </article>`
}
