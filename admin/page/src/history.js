// Charts of rates and depth, from the history that brokers keep themselves.
import {html} from './html.js'
import {Chart} from './chart.js'
import {count, rate} from './format.js'
import {Choice, Part, readAt} from './parts.js'
import {usePoll} from './poll.js'
import {adjust} from './route.js'

/** Spans, and milliseconds between two fetches: no point comes sooner. */
const SPANS = {'10m': ['10 minutes', 5_000], '1d': ['a day', 30_000]}
const CHOICES = Object.entries(SPANS).map(([span, [words]]) => [span, words])

const short = new Intl.NumberFormat('en', {notation: 'compact', maximumFractionDigits: 1})

/** The charts of a topic, channel or node, or of the whole fleet; `page` is what the page has, which says its warnings itself. */
export function History({of = {}, span, page}) {
  const [chosen, [, step]] = SPANS[span] ? [span, SPANS[span]] : ['10m', SPANS['10m']]
  const {data, error} = usePoll('data/history', {span: chosen, ...of}, step)
  const choose = (value) => adjust({span: value === '10m' ? '' : value})
  const notes = data ? [data.note, readAt(data.at, page.at)].filter(Boolean).join('; ') : null
  return html`<${Part} title="History" note=${notes} end=${html`<${Choice} label="Span of the charts" value=${chosen} choices=${CHOICES} onChoose=${choose} />`}>
    ${data?.warnings.filter((line) => !page.warnings.includes(line)).map((line) => html`<p class="soft small" key=${line}>${line}</p>`)}
    ${!data && error && html`<p class="notice">${error.message}</p>`}
    ${
      data &&
      html`<div class="charts">
      <${Chart} title="Messages a second" times=${data.times} text=${rate} axis=${short.format} series=${[
        {label: 'published', values: data.published},
        {label: 'finished', values: data.finished},
        {label: 'requeued', values: data.requeued},
        {label: 'timed out', values: data.timed_out},
      ]} />
      <${Chart} title="Messages waiting" times=${data.times} text=${count} axis=${short.format} series=${[
        {label: 'depth', values: data.depth},
        {label: 'in flight', values: data.in_flight},
      ]} />
    </div>`
    }
  </${Part}>`
}
