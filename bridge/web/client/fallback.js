/** What feeds a dashboard while it has no WebSocket: Server-Sent Events, and where those do not come, polling. */

/** How long Server-Sent Events may take to begin. */
const OPEN_MS = 5000

/** Server-Sent Events that came for so long work: after those it is worth asking for them again at once. */
const STEADY_MS = 5000

/** How long is polled before Server-Sent Events are tried again. */
const POLLING_MS = 30_000

/** How many pages of history are read in one round at most. */
const PAGES = 100

/** Returns the id behind which Server-Sent Events go on, `epoch;a=42;b/key=17`; empty: there is no position yet. */
export function eventId(places) {
  const parts = []
  let epoch
  for (const { name, settled } of places) {
    if (!settled) continue
    if (settled.epoch !== epoch) parts.push((epoch = settled.epoch))
    parts.push(`${name}=${settled.seq}`)
  }
  return parts.join(";")
}

export class Fallback {
  /** What feeds the dashboard now: none, sse or polling. */
  transport = "none"
  #abort = null

  /**
   * Calls `tell(frames)` with what comes, `acknowledge(rows)` with where subscriptions begin, which returns their
   * places, and `changed(transport)`; `transports` is a Set of those that may be used.
   */
  constructor({ http, positions, clock, EventSource, transports, pollInterval, tell, acknowledge, changed }) {
    const sources = { http, positions, clock, EventSource }
    Object.assign(this, sources, { transports, pollInterval, tell, acknowledge, changed })
  }

  get running() {
    return this.#abort !== null
  }

  start() {
    if (this.running) return
    this.#abort = new AbortController()
    this.#run(this.#abort.signal)
  }

  /** Stops: nothing is told any more, also not what is on its way. */
  stop() {
    this.#abort?.abort()
    this.#abort = null
    this.#become("none")
  }

  /** Begins anew with the subscriptions that there are now, if it is running. */
  restart() {
    if (!this.running) return
    this.stop()
    this.start()
  }

  #become(transport) {
    if (transport === this.transport) return
    this.transport = transport
    this.changed(transport)
  }

  async #run(signal) {
    const [sse, polling] = [this.transports.has("sse"), this.transports.has("polling")]
    while (!signal.aborted && (sse || polling)) {
      const worked = sse && (await this.#listen(signal))
      if (signal.aborted) return
      if (polling) await this.#poll(signal, worked ? 0 : sse ? POLLING_MS : Infinity)
      else await this.#sleep(this.pollInterval, signal)
    }
  }

  #sleep(ms, signal) {
    return new Promise((resolve) => {
      const end = () => {
        this.clock.clearTimeout(timer)
        signal.removeEventListener("abort", end)
        resolve()
      }
      const timer = this.clock.setTimeout(end, ms)
      signal.addEventListener("abort", end)
    })
  }

  // Server-Sent Events

  /** Listens until it ends; returns whether it worked. */
  async #listen(signal) {
    this.positions.rewind()
    const places = [...this.positions.places.values()]
    const url = this.http.url(
      "/events",
      places.map(({ name }) => ["stream", name]),
    )
    const { http, clock } = this
    const headers = await http.headers().catch(() => null)
    if (headers === null || signal.aborted || places.length === 0) return false
    return new Promise((resolve) => {
      const source = new this.EventSource(url, { fetch: http.fetch, headers, lastEventId: eventId(places), clock })
      let opened = null // when the first event came: something on the way may hold back what comes
      let began = []
      const end = () => {
        clock.clearTimeout(timer)
        signal.removeEventListener("abort", end)
        source.close()
        if (opened !== null && !signal.aborted) this.#become("none")
        resolve(opened !== null && clock.now() - opened >= STEADY_MS)
      }
      const timer = clock.setTimeout(end, OPEN_MS)
      signal.addEventListener("abort", end)
      source.onmessage = ({ data, lastEventId }) => {
        clock.clearTimeout(timer)
        opened ??= clock.now()
        let frame
        try {
          frame = JSON.parse(data)
        } catch {
          return end()
        }
        if (frame.type === "refused") return end()
        this.#become("sse")
        if (frame.type === "subscribed") began = this.acknowledge(frame.subscriptions)
        else this.tell(this.positions.take(frame, "sse"))
        // An event without an id leaves something undone, as a snapshot that is not the last one.
        if (lastEventId) this.positions.settle(began.splice(0))
      }
      source.onerror = (error) => {
        if (error?.status === 401) http.token?.forget()
        end()
      }
    })
  }

  // Polling

  async #poll(signal, lastsMs) {
    const until = this.clock.now() + lastsMs
    this.#become("polling")
    this.positions.rewind()
    do {
      const wait = await this.round([...this.positions.places.values()], signal)
      if (signal.aborted) return
      await this.#sleep(Math.max(this.pollInterval, wait), signal)
    } while (!signal.aborted && this.clock.now() < until)
  }

  /** Asks once for each place what is new; returns after how many milliseconds to ask again, 0 if that is not said. */
  async round(places, signal) {
    const whole = new Set(places.map((place) => place.name))
    const asked = places.filter(({ name, stream }) => name === stream || !whole.has(stream))
    const waits = await Promise.all(asked.map((place) => this.#pollOne(place, signal).catch(() => 0)))
    return Math.max(0, ...waits)
  }

  async #pollOne(place, signal) {
    const { stream, key, settled } = place
    const etag = place.etag ?? (settled && `"${settled.epoch}-${settled.seq}"`)
    const answer = await this.http.get(`/state/${stream}`, { query: [["key", key]], etag, signal })
    const wanted = !signal.aborted && this.positions.places.get(place.name) === place
    if (!wanted || answer.status !== 200) return answer.retryAfterMs
    const values = answer.body.updates ?? [answer.body]
    const goesOn = settled && !place.latest
    const again = goesOn ? await this.#readHistory(place, values, signal) : this.#take(place, values, answer)
    if (again === undefined && !signal.aborted) place.etag = answer.etag
    return again ?? answer.retryAfterMs
  }

  /** Takes current values: as snapshots where nothing is known yet, else as updates. */
  #take(place, values, { etag }) {
    const begins = place.settled === null
    for (const value of values) this.tell(this.positions.take(begins ? { ...value, snapshot: true } : value, "polling"))
    const [, epoch, seq] = /"(.+)-(\d+)"/.exec(etag ?? "") ?? []
    const further = begins || epoch !== place.at.epoch || seq > place.at.seq
    if (place.key === undefined && epoch && further) place.move({ epoch, seq: Number(seq) })
  }

  /** Reads every update behind a place; returns after how long to ask again if that could not be done. */
  async #readHistory(place, values, signal) {
    const { stream, key } = place
    for (let page = 0; page < PAGES; page++) {
      const since = `${place.settled.epoch}-${place.settled.seq}`
      const query = [
        ["key", key],
        ["since", since],
      ]
      const { status, body, retryAfterMs } = await this.http.get(`/state/${stream}/history`, { query, signal })
      if (signal.aborted) return 0
      if (status === 410) {
        for (const value of values) this.tell(this.positions.take({ ...value, snapshot: true }, "polling"))
        return undefined
      }
      if (status !== 200) return retryAfterMs
      if (body.missed) this.#tellMissed(place, body.missed)
      for (const update of body.updates) this.tell(this.positions.take(update, "polling"))
      if (!body.next) return undefined
    }
    return 0
  }

  #tellMissed(place, { to }) {
    if (to <= place.at.seq) return
    const gap = place.gapTo(place.at, to, "trimmed")
    this.tell(this.positions.take(gap))
    place.move({ epoch: gap.epoch, seq: to })
  }
}
