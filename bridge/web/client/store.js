/** State that can be watched: what a dashboard shows, by key. */

/** How many changes `getHistory` goes back. */
const HISTORY = 100

export class Store {
  #values = new Map()
  #watchers = new Map()
  #history = []
  #clock
  #log

  /** @param {{clock?: {now(): number}, log?: Console}} [options] */
  constructor({ clock = Date, log = console } = {}) {
    this.#clock = clock
    this.#log = log
  }

  /** Returns the value of a key; undefined: it has none. */
  get(key) {
    return this.#values.get(key)
  }

  /** Sets a value, and calls who watches it unless it is the same value. */
  set(key, value) {
    const before = this.#values.get(key)
    if (Object.is(before, value)) return
    this.#values.set(key, value)
    this.#history.push({ key, value, time: this.#clock.now() })
    if (this.#history.length > HISTORY) this.#history.shift()
    for (const watcher of [...(this.#watchers.get(key) ?? [])]) {
      try {
        watcher(value, before)
      } catch (error) {
        this.#log.error(`[WS] Who watches ${key} threw:`, error)
      }
    }
  }

  /** Calls `watcher(value, before)` after each change of a key; returns what ends that. */
  subscribe(key, watcher) {
    if (!this.#watchers.has(key)) this.#watchers.set(key, new Set())
    const watchers = this.#watchers.get(key).add(watcher)
    return () => void watchers.delete(watcher)
  }

  /** Returns the last changes, the oldest first: of one key, or of all. */
  getHistory(key) {
    return this.#history.filter((change) => key === undefined || change.key === key)
  }
}

/** Which update changes which key, and how: merged into the value, or in its place. */
const CHANGES = {
  block_update: ["metrics", mergeBlock],
  metrics_update: ["metrics", mergeMetrics],
  network_update: ["network", (_before, data) => data],
  trading_update: ["trading", (before, data) => ({ ...before, ...data })],
  energy_update: ["energy", (_before, data) => data],
}

function mergeBlock(before, { height, finalized_height, timestamp }) {
  return { ...before, height, finalized_height: finalized_height ?? before?.finalized_height, timestamp }
}

/** The height of a block is the newer word: metrics that are older never take it back. */
function mergeMetrics(before, data) {
  const merged = { ...before, ...data }
  if (data.blockHeight != null) merged.height = Math.max(before?.height ?? 0, Number(data.blockHeight))
  return merged
}

/** Returns the handlers that keep a store up to date, by type of update. */
export function storeHandlers(store) {
  const handler = (key, change) => (data) => store.set(key, change(store.get(key), data))
  return Object.entries(CHANGES).map(([type, [key, change]]) => [type, handler(key, change)])
}
