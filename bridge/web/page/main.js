/** The live page: one client feeds every view. */
import { start } from "../client/theblock.js"
import { watchAccounts } from "./account.js"
import { Blocks } from "./blocks.js"
import { showCharts } from "./charts.js"
import { showConnection } from "./connection.js"
import { showFigures } from "./figures.js"
import { inspect } from "./inspector.js"
import { showMarket } from "./market.js"

const STREAMS = ["block_updates", "metrics", "network", "trading", "energy"]
const PAST = 300 // updates of each stream, for the charts
const PING_MS = 5000

const base = new URL(".", location.href).href.replace(/\/$/, "")
const url = `${base.replace(/^http/, "ws")}/ws`
const format = new URLSearchParams(location.search).get("format") === "proto" ? "proto" : "json"

/** Returns the newest updates of a stream that history holds, the oldest first; none if they cannot be had. */
async function past(stream) {
  await ws.paint() // the current values come first
  const response = await fetch(`${base}/state/${stream}/history?limit=${PAST}&reverse=1`).catch(() => null)
  return response?.ok ? (await response.json()).updates.reverse() : []
}

const { ws, store, config } = await start({ url, format, streams: STREAMS, pingInterval: PING_MS })
const blocks = new Blocks()
blocks.redraw()
ws.on("block_update", (_data, update) => blocks.take(update))
ws.on("ws:gap", ({ stream, reason }) => {
  if (stream === "block_updates" && reason === "epoch") blocks.clear()
})
showFigures(store)
showMarket(store)
const showLink = showConnection(ws, store, { format, version: config.version })
watchAccounts(ws, base)
inspect(url, [...STREAMS, "account"])
showCharts(ws, past)
past("block_updates").then((updates) => blocks.seed(updates))
setInterval(() => {
  showLink()
  blocks.redraw()
}, 1000)
