// Parts that several pages have: the head, what is wrong, figures, the state of a fetch.
import {useEffect} from 'preact/hooks'
import {html} from './html.js'
import {counted, moment, UNKNOWN} from './format.js'
import {link} from './route.js'

/** Warnings that are shown before the rest is folded away. */
const WARNINGS_SHOWN = 4

/** The head of a page: the way to it, its name, and what can be done. */
export function Head({crumbs = [], title, tags, poll, children}) {
  useEffect(() => {
    document.title = `${title} · mq`
  }, [title])
  return html`<div class="head">
    ${
      crumbs.length > 0 &&
      html`<nav class="crumbs" aria-label="The way here">
      ${crumbs.map(([name, href]) => html`<span key=${href}><a href=${href}>${name}</a> / </span>`)}</nav>`
    }
    <h1>${title}</h1>${tags}
    ${poll?.data && html`<span class="soft small">as of ${clock(poll.data.at)}</span>`}
    ${children && html`<div class="acts">${children}</div>`}
  </div>`
}

/** A time of day. */
export const clock = (seconds) => (seconds ? moment(seconds).slice(11) : UNKNOWN)

/** The state of a fetch, where there is something to say about it: what failed, and the server's warnings. */
export function State({poll}) {
  const {data, error} = poll
  const warnings = data ? unsaid(data) : []
  const [shown, rest] = [warnings.slice(0, WARNINGS_SHOWN), warnings.slice(WARNINGS_SHOWN)]
  return html`<div class="state" aria-live="polite">
    ${!data && !error && html`<p class="soft">Loading…</p>`}
    ${
      error &&
      error.status !== 401 &&
      html`<p class="notice bad" key="error">${error.message}
      ${data && html` <span class="soft">What is shown is of ${clock(data.at)}.</span>`}</p>`
    }
    ${
      shown.length > 0 &&
      html`<div class="notice" key="warnings">
      <ul>${shown.map((line) => html`<li key=${line}>${line}</li>`)}</ul>
      ${
        rest.length > 0 &&
        html`<details><summary>and ${counted(rest.length, 'more warning')}</summary>
        <ul>${rest.map((line) => html`<li key=${line}>${line}</li>`)}</ul></details>`
      }
    </div>`
    }
  </div>`
}

/** Warnings but those that a finding says already: a node that does not answer is both. */
function unsaid({warnings = [], findings = []}) {
  const gone = findings.filter(({kind, node}) => node && kind.endsWith('unreachable')).map(({node}) => node)
  return warnings.filter((line) => !gone.some((node) => line.includes(node)))
}

/** A part of a page under a heading. */
export function Part({title, note, end, children}) {
  return html`<section class="part" aria-label=${title}>
    <div class="part-head"><h2>${title}</h2>${note && html`<span class="soft small">${note}</span>`}
      ${end && html`<div class="end">${end}</div>`}</div>
    ${children}
  </section>`
}

const SEVERITIES = {critical: ['bad', 'Critical'], warning: ['warn', 'Warning'], notice: ['', 'Notice']}
const severityOf = ({severity}) => SEVERITIES[severity] ?? SEVERITIES.notice

/** What is wrong, in words, worst first as the server sorted it. */
export function Findings({findings}) {
  return html`<ul class="troubles" aria-label="Trouble">${findings.map((finding) => {
    const [kind, word] = severityOf(finding)
    return html`<li key=${`${finding.kind} ${finding.topic} ${finding.channel} ${finding.node}`} class=${`is-${finding.severity}`}>
      <span class=${`tag ${kind}`}>${word}</span>
      <a class="what" href=${placeOf(finding)}>${finding.text}</a>
      ${finding.since != null && html`<span class="since" title=${moment(finding.since)}>since ${shortMoment(finding.since)}</span>`}
      ${finding.help && html`<span class="do">${sentence(finding.help)}</span>`}
    </li>`
  })}</ul>`
}

/** The time of day, with the day if that is another one. */
function shortMoment(seconds) {
  const text = moment(seconds)
  const isToday = text.slice(0, 10) === moment(Date.now() / 1000).slice(0, 10)
  return isToday ? text.slice(11, 16) : text.slice(0, 16)
}

const sentence = (text) => text.charAt(0).toUpperCase() + text.slice(1) + (/[.!?]$/.test(text) ? '' : '.')

function placeOf({topic, channel, node, kind}) {
  if (channel) return link(['topics', topic, channel])
  if (topic) return link(['topics', topic])
  if (kind.startsWith('lookup')) return link(['lookup'])
  return node ? link(['nodes', node]) : link(['nodes'])
}

/** The worst finding as a word or two; the whole sentence is its title. */
export function Worst({finding}) {
  if (!finding) return null
  return html`<span class=${`tag ${severityOf(finding)[0]}`} title=${finding.text}>${finding.kind.replaceAll('_', ' ')}</span>`
}

export const Tag = ({kind = '', title, children}) => html`<span class=${`tag ${kind}`} title=${title}>${children}</span>`

/** Figures side by side: `[name, value, more]`. */
export function Figures({label, figures}) {
  return html`<dl class=${`figures of-${figures.length}`} aria-label=${label}>${figures.map(
    ([name, value, more]) => html`<div key=${name}>
    <dt>${name}</dt><dd>${value}${more && html`<small>${more}</small>`}</dd></div>`,
  )}</dl>`
}

/** Names and values, a line each. Lines with nothing to say are left out. */
export function Pairs({pairs}) {
  const known = pairs.filter(([, value]) => value !== null && value !== undefined && value !== '')
  return html`<dl class="pairs">${known.map(([name, value]) => [html`<dt key=${name}>${name}</dt>`, html`<dd>${value}</dd>`])}</dl>`
}

/** One of several, as buttons. `choices` are `[value, word]`. */
export function Choice({label, value, choices, onChoose}) {
  return html`<div class="choice" role="group" aria-label=${label}>${choices.map(
    ([each, word]) => html`<button key=${each}
    type="button" aria-pressed=${String(each === value)} onClick=${() => onChoose(each)}>${word}</button>`,
  )}</div>`
}
