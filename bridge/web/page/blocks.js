/** The latest blocks: a table, how long each took, and how long ago the last one was. */
import { Chart } from "./chart.js"
import { slowly } from "./painter.js"
import { Rows } from "./rows.js"
import { given, places, short, span, whole, write } from "./text.js"

const HELD = 121
const SHOWN = 12
const AVERAGED = 20
const TABLE_MS = 100 // nobody reads sixty rows a second

export class Blocks {
  #blocks = [] // by height, the lowest first
  #rows = new Rows(document.querySelector("#blocks tbody"), 4, SHOWN)
  #chart
  #values = places("value")
  #draw = slowly(() => this.#show(), TABLE_MS)
  #drawChart = slowly(() => this.#showChart())

  constructor() {
    this.#chart = new Chart(places("chart").interval, 1, true)
  }

  /** Takes an update; one that replaces blocks voids those above it. */
  take({ data, time }) {
    const block = { ...data, height: Number(data.height), time }
    if (data.replaces) this.#blocks = this.#blocks.filter(({ height }) => height <= block.height)
    const before = this.#blocks.findLastIndex(({ height }) => height < block.height)
    const known = this.#blocks[before + 1]
    const again = known?.height === block.height
    block.replaces ??= again ? known.replaces : undefined
    this.#blocks.splice(before + 1, again ? 1 : 0, block)
    if (this.#blocks.length > HELD) this.#blocks.shift()
    this.redraw()
  }

  /** Takes updates of before; the blocks that came meanwhile stand behind them. */
  seed(updates) {
    const later = this.#blocks
    this.#blocks = []
    for (const update of updates) this.take(update)
    for (const block of later) this.take({ data: block, time: block.time })
  }

  /** Forgets everything: the chain begins anew. */
  clear() {
    this.#blocks = []
    this.redraw()
  }

  redraw() {
    this.#draw()
    this.#drawChart()
  }

  /** Returns how long a block took, milliseconds; null: that cannot be known. */
  #interval(index) {
    const [before, block] = [this.#blocks[index - 1], this.#blocks[index]]
    if (before?.height !== block.height - 1) return null
    const interval = Number(block.timestamp) - Number(before.timestamp)
    return Number.isNaN(interval) ? null : interval
  }

  #show() {
    const last = this.#blocks.length - 1
    const indexes = Array.from({ length: Math.min(SHOWN, last + 1) }, (_, index) => last - index)
    const texts = indexes.map((index) => {
      const { height, hash, tx_count } = this.#blocks[index]
      return [whole(height), given(hash, short), given(tx_count, whole), given(this.#interval(index), span)]
    })
    this.#rows.show(texts, (row, index) => {
      const { replaces } = this.#blocks[last - index]
      row.classList.toggle("replaced", replaces !== undefined)
      row.title = replaces ? `replaces ${whole(replaces.depth)} block(s) from ${whole(replaces.height)} on` : ""
    })
    const recent = Array.from({ length: Math.min(AVERAGED, last + 1) }, (_, index) => this.#interval(last - index))
    const known = recent.filter((interval) => interval !== null)
    const average = known.length ? known.reduce((sum, interval) => sum + interval, 0) / known.length : null
    write(this.#values.interval, given(average, span))
    const tip = this.#blocks[last]
    write(this.#values.age, given(tip && Number(tip.timestamp ?? tip.time), (time) => span(Date.now() - time)))
  }

  #showChart() {
    const intervals = this.#blocks.map((_, index) => this.#interval(index))
    const seconds = intervals.map((interval) => (interval === null ? null : interval / 1000))
    this.#chart.draw([this.#blocks.map(({ height }) => height).slice(1), seconds.slice(1)])
  }
}
