// Charts over time: uPlot in the page's colours, with a key that shows the figures as text.
import {useEffect, useRef, useState} from 'preact/hooks'
import uPlot from 'uplot'
import {html} from './html.js'
import {UNKNOWN} from './format.js'
import {useMedia} from './parts.js'

const HEIGHT = 150

/** A chart of `series`, each `{ label, values }`, over `times` in Unix seconds. `text` formats a value. */
export function Chart({title, times, series, text, axis = text}) {
  const plot = useRef(null)
  const [at, setAt] = useState(null)
  // Colours on a canvas do not follow by themselves.
  const scheme = useMedia('(prefers-color-scheme: dark)')
  const labels = series.map(({label}) => label).join('\n')
  useEffect(() => {
    if (times.length < 2) return undefined
    const place = plot.current
    const chart = new uPlot(options(place, series, axis, setAt), [times, ...series.map(({values}) => values)], place)
    place.chart = chart
    const sizes = new ResizeObserver(() => chart.setSize({width: place.clientWidth, height: HEIGHT}))
    sizes.observe(place)
    return () => {
      sizes.disconnect()
      chart.destroy()
      place.chart = null
    }
  }, [labels, scheme, times.length < 2])
  useEffect(() => {
    plot.current?.chart?.setData([times, ...series.map(({values}) => values)])
  }, [times, series])
  const shown = at !== null && at < times.length ? at : times.length - 1
  const summary = `${title}. ${series.map(({label, values}) => spoken(label, values, text)).join('. ')}`
  return html`<figure class="chart">
    <figcaption><h3>${title}</h3></figcaption>
    <ul class="key">${series.map(
      ({label, values}, index) => html`<li key=${label}>
      <span class=${`s${index + 1}`}></span>${label} <b>${text(values[shown])}</b></li>`,
    )}</ul>
    ${
      times.length < 2
        ? html`<p class="plot soft small">Nothing to draw yet: the first points come in some seconds.</p>`
        : html`<div class="plot" role="img" aria-label=${summary} ref=${plot}></div>`
    }
  </figure>`
}

function spoken(label, values, text) {
  const known = values.filter((value) => value != null)
  if (known.length === 0) return `${label}: ${UNKNOWN}`
  return `${label}: now ${text(known.at(-1))}, at most ${text(Math.max(...known))}`
}

function options(place, series, axis, setAt) {
  const style = getComputedStyle(document.documentElement)
  const colour = (name) => style.getPropertyValue(name).trim()
  const lines = {stroke: colour('--line'), width: 1}
  const ink = {stroke: colour('--soft'), font: '11px system-ui, sans-serif', grid: lines, ticks: {...lines, size: 4}}
  return {
    width: Math.max(place.clientWidth, 100),
    height: HEIGHT,
    legend: {show: false},
    cursor: {y: false, points: {size: 6}, drag: {x: false, y: false}},
    // Half of the last time of day stands to the right of the plot.
    padding: [10, 28, 0, 0],
    scales: {y: {range: (_, low, high) => [Math.min(0, low ?? 0), high > 0 ? high * 1.1 : 1]}},
    axes: [
      {
        ...ink,
        space: 70,
        size: 28,
        values: [
          [86_400, '{D} {MMM}', null, null, null, null, null, null, 1],
          [60, '{HH}:{mm}', null, null, null, null, null, null, 1],
          [1, '{HH}:{mm}:{ss}', null, null, null, null, null, null, 1],
        ],
      },
      {...ink, size: 62, values: (_, marks) => marks.map(axis)},
    ],
    series: [
      {},
      ...series.map(({label}, index) => ({
        label,
        stroke: colour(`--series-${index + 1}`),
        width: 1.5,
        points: {show: false},
      })),
    ],
    hooks: {setCursor: [({cursor}) => setAt(cursor.idx ?? null)]},
  }
}
