/** theblock: live updates of a sidecar for a dashboard. Nothing but this folder is needed. */
import { Features } from "./features.js"
import { httpBase } from "./http.js"
import { Store } from "./store.js"
import { BlockWebSocket, DEFAULT_URL, TRANSPORTS } from "./websocket.js"

export { Features } from "./features.js"
export { Store } from "./store.js"
export { BlockWebSocket, DEFAULT_STREAMS, DEFAULT_URL } from "./websocket.js"

const CONFIG_MS = 2000
const LOCAL = new Set(["localhost", "127.0.0.1", "[::1]"])

/** Asks the sidecar what a dashboard begins with; an empty object if it does not say. */
async function readConfig(url, { fetch = globalThis.fetch, visitor }) {
  try {
    const asked = new URL(url, globalThis.location?.href)
    asked.searchParams.set("visitor", visitor)
    const response = await fetch(asked.href, { signal: AbortSignal.timeout(CONFIG_MS) })
    return response.ok ? Object(await response.json()) : {}
  } catch {
    return {}
  }
}

/** Returns the address of the WebSocket; behind a proxy that ends TLS the sidecar cannot know that it is wss. */
function securely(url, location) {
  return location?.protocol === "https:" ? url?.replace(/^ws:(?=\/\/)/, "wss:") : url
}

/**
 * Starts a dashboard: reads the sidecar's config, shows the current values and goes on live, over the WebSocket if the
 * feature `websockets` is on for this visitor, else by polling. On localhost `window.ws` and `window.features` are set.
 * Its options are those of BlockWebSocket, and `config`: the URL of config.json.
 */
export async function start(options = {}) {
  const { url: given = globalThis.BLOCK_BUSTER_WS, location = globalThis.location } = options
  const features = options.features ?? new Features(options)
  const store = options.store ?? new Store(options)
  const where = options.config ?? `${httpBase(given ?? DEFAULT_URL)}/config.json`
  const config = await readConfig(where, { fetch: options.fetch, visitor: features.visitor })
  features.configure({ ...config.features, websockets: config.websockets })
  const all = features.isEnabled("websockets")
  const ws = new BlockWebSocket({
    pollInterval: config.poll_interval_ms,
    ...options,
    transports: (options.transports ?? TRANSPORTS).filter((transport) => all || transport === "polling"),
    store,
    url: given ?? securely(config.ws_url, location),
  })
  if (LOCAL.has(location?.hostname)) Object.assign(globalThis, { ws, features })
  return { ws: ws.mount(), store, features, config }
}
