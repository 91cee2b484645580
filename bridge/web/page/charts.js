/** Charts of values over time: which stream brings them, and where in its data each line is. */
import { Chart } from "./chart.js"
import { slowly } from "./painter.js"
import { Series } from "./series.js"
import { places } from "./text.js"

const kilo = (value) => (value == null ? null : value / 1000)

const CHARTS = {
  metrics: {
    tps: [(data) => data.tps],
    fees: [(data) => data.fees],
    latency: [(data) => data.latencyMs],
    peers: [(data) => data.peers],
  },
  network: { bandwidth: [({ bandwidth }) => kilo(bandwidth?.inbound), ({ bandwidth }) => kilo(bandwidth?.outbound)] },
  trading: { price: [(data) => data.lastPrice] },
  energy: { energy: [(data) => data.totalSupply, (data) => data.totalDemand] },
}

/** Shows charts, and goes on showing them; `past` returns the updates of a stream that came before. */
export function showCharts(ws, past) {
  const figures = places("chart")
  for (const [stream, charts] of Object.entries(CHARTS)) {
    const before = past(stream)
    for (const [name, lines] of Object.entries(charts)) {
      const series = new Series(lines.length)
      const chart = new Chart(figures[name], lines.length)
      const show = slowly(() => chart.draw(series.data))
      const point = ({ time, data }) => [time / 1000, ...lines.map((find) => find(data) ?? null)]
      ws.on("*", (_data, update) => {
        if (update.stream !== stream) return
        series.add(point(update))
        show()
      })
      before.then((updates) => {
        series.seed(updates.map(point))
        show()
      })
    }
  }
}
