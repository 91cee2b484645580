/** Figures: the path of each in the store, and how it is written. */
import { redraw } from "./painter.js"
import { decimal, energy, given, milliseconds, money, places, rate, whole, write } from "./text.js"

const FIGURES = {
  metrics: {
    height: whole,
    finalized_height: whole,
    tps: decimal,
    fees: whole,
    latencyMs: milliseconds,
    peers: whole,
    issuance: whole,
  },
  network: { activeConnections: whole, "bandwidth.inbound": rate, "bandwidth.outbound": rate },
  trading: { lastPrice: money, volume24h: decimal },
  energy: { totalSupply: energy, totalDemand: energy, price: money, providers: whole },
}

/** Shows the figures of a store, and goes on showing them. */
export function showFigures(store) {
  const elements = places("value")
  for (const [key, figures] of Object.entries(FIGURES)) {
    const view = () => {
      for (const [path, words] of Object.entries(figures)) {
        const value = path.split(".").reduce((found, name) => found?.[name], store.get(key))
        write(elements[`${key}.${path}`], given(value, words))
      }
    }
    store.subscribe(key, () => redraw(view))
    redraw(view)
  }
}
