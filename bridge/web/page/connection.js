/** How the page is connected: in a word at the top, in figures in its panel. */
import { redraw } from "./painter.js"
import { say } from "./speech.js"
import { given, milliseconds, places, span, whole, write } from "./text.js"

const COUNTS = ["messagesReceived", "reconnects", "updates", "recovered", "replayed", "missed"]
const NAMES = { websocket: "WebSocket", sse: "Server-Sent Events", polling: "polling" }
const UPSTREAM = {
  live: ["live", "Live"],
  stale: ["warn", "The node has no news"],
  down: ["bad", "The node is not reached"],
}

/** Shows the connection, and goes on showing it; returns what has it shown again. */
export function showConnection(ws, store, { format, version }) {
  const shown = places("link")
  const state = document.querySelector("#state")
  let upstream = null // as the sidecar has told it over this connection
  let newest = null

  function summary() {
    const { transport } = ws
    if (store.get("ws")?.hidden) return ["waiting", "Resting"]
    if (transport === "none") return ["bad", ws.getMetrics().updates ? "Reconnecting" : "Connecting"]
    const [kind, words] = UPSTREAM[upstream] ?? ["warn", "Connected"]
    return [kind, `${words}, over ${NAMES[transport]}`]
  }

  const view = () => {
    const counts = ws.getMetrics()
    const [kind, words] = summary()
    if (state.textContent !== words) {
      state.dataset.state = kind
      state.textContent = words
      say(words)
    }
    write(shown.transport, NAMES[ws.transport] ?? null)
    write(shown.format, ws.transport === "websocket" ? { json: "JSON", proto: "protobuf" }[format] : null)
    write(shown.version, version ?? null)
    write(shown.upstream, upstream)
    write(shown.latency, given(counts.latency, milliseconds))
    write(shown.staleness, given(newest, (time) => `${span(Date.now() - time)} ago`))
    for (const name of COUNTS) write(shown[name], whole(counts[name]))
  }
  const show = () => redraw(view)

  store.subscribe("ws", ({ transport }) => {
    if (transport !== "websocket" && transport !== "sse") upstream = null
    show()
  })
  ws.on("ws:subscribed", () => (upstream ??= "live")) // anything else is said before
  ws.on("ws:upstream", (notice) => {
    upstream = notice.state
    show()
  })
  ws.on("ws:gap", ({ stream, from, to, reason }) => {
    say(to ? `${to - from + 1} updates of ${stream} are missed` : `${stream} begins anew: ${reason}`)
  })
  ws.on("*", () => {
    newest = Date.now()
    show()
  })
  show()
  return show
}
