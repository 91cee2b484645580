/** A chart: uPlot in the colours of the page, with its newest value as text, and in words for screen readers. */
import { redraw } from "./painter.js"
import { brief, clock, given, write } from "./text.js"

/* global uPlot */
const HEIGHT = 112
const LABEL_MS = 5000 // between changes of what screen readers find
const charts = new Set()
let colours

function readColours() {
  const style = getComputedStyle(document.documentElement)
  colours = ["line-1", "line-2", "muted", "rule"].map((name) => style.getPropertyValue(`--${name}`))
  for (const { plot } of charts) redraw(() => plot.redraw())
}

readColours()
matchMedia("(prefers-color-scheme: dark)").addEventListener("change", readColours)

// A size is told after the views of a frame were drawn: another draw belongs to the next.
const resized = new ResizeObserver((entries) => {
  for (const { target, contentRect: { width } } of entries) redraw(() => target.chart.resize(width))
})

const axis = (more) => ({ stroke: () => colours[2], font: "11px system-ui", ticks: { show: false }, gap: 4, ...more })

/** Returns the bounds of an axis: from 0 where that is near, and for bars, and never without height. */
const range = (bars) => (_plot, low, high) => {
  if (low === null) return [0, 1]
  const air = (high - low) * 0.1 || Math.abs(high) * 0.1 || 1
  return [low >= 0 && (bars || low < (high - low) * 2) ? 0 : low - air, high + air]
}

export class Chart {
  #box = document.createElement("div")
  #output = document.createElement("output")
  #title
  #labelled = -Infinity

  /** Draws into a figure with a caption; bars stand at whole numbers, lines at times. */
  constructor(figure, lines, bars = false) {
    const caption = figure.querySelector("figcaption")
    this.#title = caption.textContent
    this.#output.ariaLive = "off"
    caption.append(this.#output)
    this.#box.role = "img"
    this.#box.chart = this
    figure.append(this.#box)
    const series = Array.from({ length: lines }, (_, line) => ({
      stroke: () => colours[line],
      width: 1.5,
      points: { show: false },
      ...(bars && { width: 0, fill: () => colours[line], paths: uPlot.paths.bars({ size: [0.7, 16] }) }),
    }))
    const words = (_plot, places) => places.map((place) => (bars ? String(place) : clock(place * 1000)))
    const options = {
      width: this.#box.clientWidth,
      height: HEIGHT,
      padding: [6, 12, 0, 0],
      legend: { show: false },
      cursor: { y: false, drag: { x: false } },
      scales: { x: { time: !bars }, y: { range: range(bars) } },
      axes: [
        axis({ size: 20, space: 80, grid: { show: false }, values: words }),
        axis({ size: 46, space: 28, grid: { stroke: () => colours[3], width: 1 } }),
      ],
      series: [{}, ...series],
      hooks: { setCursor: [(plot) => this.#showValue(plot)] },
    }
    this.plot = new uPlot(options, Array.from({ length: lines + 1 }, () => []), this.#box)
    charts.add(this)
    resized.observe(this.#box)
    this.#showValue(this.plot)
  }

  resize(width) {
    if (width !== this.plot.width) this.plot.setSize({ width, height: HEIGHT })
  }

  draw(data) {
    this.plot.setData(data)
    this.#showValue(this.plot)
    if (performance.now() - this.#labelled < LABEL_MS) return
    this.#labelled = performance.now()
    const values = data.slice(1).flat().filter((value) => value !== null)
    const bounds = values.length ? `, from ${brief(Math.min(...values))} to ${brief(Math.max(...values))}` : ""
    this.#box.ariaLabel = `${this.#title}: ${this.#output.textContent}${bounds}`
  }

  /** Shows the values under the pointer, else the newest. */
  #showValue({ cursor, data: [times, ...lines] }) {
    const texts = lines.map((line) => given(line[cursor.idx ?? times.length - 1], brief))
    write(this.#output, texts.some((text) => text !== null) ? texts.map((text) => text ?? "–").join(" / ") : null)
  }
}
