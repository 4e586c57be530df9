// Messages of a topic, without taking them: what is stored on one node, oldest first.
import {useEffect} from 'preact/hooks'
import {html} from '../html.js'
import {bodyText, has, Marked, VIEWS} from '../body.js'
import {bytes, count, counted, moment} from '../format.js'
import {Choice, Head, State, Tag} from '../parts.js'
import {usePoll} from '../poll.js'
import {adjust, link} from '../route.js'
import {Search} from '../search.js'

const LIMITS = ['20', '50', '100']

export function Peek({topic, parameters}) {
  const known = usePoll('data/topic', {topic}, null)
  const nodes = known.data?.nodes.map(({node}) => node) ?? []
  const node = parameters.node ?? nodes[0]
  return html`<${Head} crumbs=${[
    ['Topics', link(['topics'])],
    [topic, link(['topics', topic])],
  ]} title=${`Peek at ${topic}`}>
    </${Head}>
    ${!known.data && html`<${State} poll=${known} />`}
    ${known.data && nodes.length === 0 && html`<p class="soft">No node has this topic.</p>`}
    ${node && html`<${Messages} key=${node} topic=${topic} node=${node} nodes=${nodes} parameters=${parameters} />`}`
}

function Messages({topic, node, nodes, parameters}) {
  const {from = '', limit = '20', view = 'text', find = ''} = parameters
  const poll = usePoll('data/peek', {topic, node, from, limit}, null)
  const {data} = poll
  const shown = data?.messages.filter((message) => has(message, find, view)) ?? []
  useEffect(() => scrollTo(0, 0), [from])
  return html`<form class="row" onSubmit=${(event) => event.preventDefault()}>
      <label class="soft small">Node <select value=${node} onChange=${(event) => adjust({node: event.target.value, from: ''})}>
        ${(nodes.includes(node) ? nodes : [node, ...nodes]).map((each) => html`<option key=${each} value=${each}>${each}</option>`)}</select></label>
      <label class="soft small">Messages <select value=${limit} onChange=${(event) => adjust({limit: event.target.value})}>
        ${LIMITS.map((each) => html`<option key=${each} value=${each}>${each}</option>`)}</select></label>
      <${Choice} label="Bodies as" value=${view} choices=${VIEWS} onChoose=${(value) => adjust({view: value === 'text' ? '' : value})} />
      <${Search} label="Search in what is shown" value=${find} onSearch=${(words) => adjust({find: words})} />
    </form>
    <${State} poll=${poll} />
    ${
      data &&
      html`<div class="row"><p class="soft" aria-live="polite">${found(data.messages.length, shown.length, find)}</p>
        <${Steps} data=${data} from=${from} again=${poll.again} /></div>
      <div class="list">${shown.map((message) => html`<${Message} key=${message.id} message=${message} view=${view} find=${find} />`)}</div>
      ${shown.length > 5 && html`<div class="row"><${Steps} data=${data} from=${from} again=${poll.again} /></div>`}`
    }`
}

function found(all, shown, find) {
  if (all === 0) return 'Nothing is stored from here on.'
  return find === '' ? counted(all, 'message') : `${count(shown)} of ${counted(all, 'message')} with ${JSON.stringify(find)}`
}

function Steps({data, from, again}) {
  return html`${from !== '' && html`<button type="button" onClick=${() => adjust({from: ''})}>From the oldest</button>`}
    <button type="button" onClick=${again}>Read again</button>
    <button type="button" disabled=${!data.next || data.messages.length === 0} onClick=${() => adjust({from: data.next})}>Next</button>`
}

function Message({message, view, find}) {
  const {id, time, attempts, size, truncated, headers} = message
  const body = bodyText(message, view)
  return html`<article class="message" aria-label=${`Message ${id}`}>
    <header><b class="mono"><${Marked} text=${id} words=${find} /></b><span>${moment(time)}</span><span>${bytes(size)}</span>
      ${attempts > 0 && html`<span>${counted(attempts, 'attempt')}</span>`}${truncated && html`<${Tag} kind="warn">cut: only the beginning</${Tag}>`}
      ${body.view !== view && html`<${Tag}>${body.view === 'hex' ? 'no text: hex' : 'no JSON: text'}</${Tag}>`}</header>
    ${
      headers?.length > 0 &&
      html`<dl class="pairs">${headers.map(({name, value}) => [
        html`<dt><${Marked} text=${name} words=${find} /></dt>`,
        html`<dd class="mono"><${Marked} text=${value} words=${find} /></dd>`,
      ])}</dl>`
    }
    <pre class=${body.view} tabindex="0" aria-label="Body">${html`<${Marked} text=${body.text} words=${find} />`}</pre>
  </article>`
}
