// Parts that several pages have: the head, what is wrong, figures, the state of a fetch.
import {useEffect, useState} from 'preact/hooks'
import {html} from './html.js'
import {count, counted, duration, moment, UNKNOWN} from './format.js'
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
    ${poll?.data && html`<${Age} at=${poll.data.at} />`}
    ${children && html`<div class="acts">${children}</div>`}
  </div>`
}

/** Seconds from which on an answer is old: the server shows what it knows while it asks slow nodes anew. */
const OLD = 30

/** When the numbers were read, and how long ago that is where it counts. */
function Age({at}) {
  const age = Date.now() / 1000 - at
  return html`<span class=${age > OLD ? 'tag warn' : 'soft small'}>as of ${clock(at)}${age > OLD && `, ${duration(Math.round(age))} ago: being read anew`}</span>`
}

/** A time of day. */
export const clock = (seconds) => (seconds ? moment(seconds).slice(11) : UNKNOWN)

/** The state of a fetch, where there is something to say about it: what failed, and the server's warnings. */
export function State({poll}) {
  const {data, error, reading} = poll
  const warnings = data ? unsaid(data) : []
  const [shown, rest] = [warnings.slice(0, WARNINGS_SHOWN), warnings.slice(WARNINGS_SHOWN)]
  return html`<div class="state" aria-live="polite">
    ${!data && !error && !reading && html`<p class="soft">Loading…</p>`}
    ${reading && html`<p class=${data ? 'notice' : 'soft'} key="reading">${soFar(reading)}</p>`}
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

/** How far a fleet is read that nobody has looked at for a while. */
function soFar({done, of}) {
  if (of == null) return 'The lookup servers are being asked for the nodes.'
  return `${count(done)} of ${counted(of, 'node')} have answered so far: what is shown is a part of it.`
}

/** Warnings but those that a finding says already: a node that does not answer is both. */
function unsaid({warnings = [], findings = []}) {
  const gone = findings.filter(({kind, node}) => node && kind.endsWith('unreachable')).map(({node}) => node)
  return warnings.filter((line) => !gone.some((node) => line.includes(node)))
}

/** Seconds by which numbers of one page may differ in age before that is said. */
const APART = 5

/** Says when numbers were read that are not as old as the rest of the page. */
export const readAt = (at, page) => (at != null && Math.abs(at - page) > APART ? `as of ${clock(at)}` : null)

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

/** What is wrong, in words, worst first as the server sorted it; what is about the same place stands together. */
export function Findings({findings}) {
  const isNarrow = useMedia('(max-width: 640px)')
  const groups = new Map()
  for (const finding of findings) {
    const place = placeOf(finding)
    groups.set(place, [...(groups.get(place) ?? []), finding])
  }
  return html`<ul class="troubles" aria-label="Trouble">${[...groups].map(([place, [worst, ...rest]]) => {
    const more = rest.map((finding) => html`<${Finding} key=${`${finding.kind} ${finding.text}`} finding=${finding} />`)
    return html`<li key=${`${worst.kind} ${place}`} class=${`is-${worst.severity}`}>
      <${Finding} finding=${worst} />
      ${rest.length > 0 && isNarrow ? html`<details><summary>and ${counted(rest.length, 'more finding')} about it</summary>${more}</details>` : more}
    </li>`
  })}</ul>`
}

function Finding({finding}) {
  const [kind, word] = severityOf(finding)
  return html`<div class="finding">
    <span class=${`tag ${kind}`}>${word}</span>
    <a class="what" href=${placeOf(finding)}>${finding.text}</a>
    ${finding.since != null && html`<span class="since" title=${moment(finding.since)}>since ${shortMoment(finding.since)}</span>`}
    ${finding.help && html`<span class="do">${sentence(finding.help)}</span>`}
  </div>`
}

/** Whether a media query holds, as long as it does. */
export function useMedia(words) {
  const [holds, setHolds] = useState(() => matchMedia(words).matches)
  useEffect(() => {
    const query = matchMedia(words)
    const changed = () => setHolds(query.matches)
    query.addEventListener('change', changed)
    return () => query.removeEventListener('change', changed)
  }, [words])
  return holds
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

/** Meanings of words that do not speak for themselves. */
const MEANINGS = {
  pinned: 'All consumers hold as many messages as they may.',
  skew: 'One node has nearly all that waits.',
  slow: 'Messages come as fast as they are finished, or faster.',
  stuck_client: 'One consumer holds messages and finishes none.',
}

/** The worst finding as a word or two, with what it means and the whole sentence as title and for screen readers. */
export function Worst({finding}) {
  if (!finding) return null
  const {kind, text} = finding
  const words = [MEANINGS[kind], sentence(text)].filter(Boolean).join(' ')
  return html`<span class=${`tag ${severityOf(finding)[0]}`} title=${words}>${kind.replaceAll('_', ' ')}<span class="hidden">: ${words}</span></span>`
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
