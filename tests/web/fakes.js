// What the client's tests give it in place of a browser: a clock that stands still, sockets and HTTP that do as told.
import { BlockWebSocket } from "../../bridge/web/client/theblock.js"

/** Lets everything run that waits for no timer. */
export const settle = async () => {
  for (let turn = 0; turn < 3; turn++) await new Promise((resolve) => setImmediate(resolve))
}

export class FakeClock {
  #now = 1_000_000
  #timers = new Map()
  #number = 0

  now = () => this.#now
  setTimeout = (call, ms) => {
    this.#timers.set(++this.#number, { call, due: this.#now + ms })
    return this.#number
  }
  clearTimeout = (timer) => void this.#timers.delete(timer)

  /** How many timers are set. */
  get pending() {
    return this.#timers.size
  }

  /** Lets time pass, and everything run that is due. */
  async advance(ms) {
    const end = this.#now + ms
    await settle()
    for (;;) {
      const due = [...this.#timers]
        .filter(([, timer]) => timer.due <= end)
        .sort((a, b) => a[1].due - b[1].due || a[0] - b[0])
      if (due.length === 0) break
      const [number, { call, due: at }] = due[0]
      this.#timers.delete(number)
      this.#now = Math.max(this.#now, at)
      call()
      await settle()
    }
    this.#now = end
  }
}

export const WELCOME = { type: "welcome", session: "s", server: "fake", version: "1", format: "json", streams: [] }

/** A WebSocket whose other end is the test. */
export class FakeSocket {
  static all = []
  readyState = 0
  sent = []
  closed = null

  constructor(url, protocols) {
    if (FakeSocket.refuse) throw FakeSocket.refuse
    Object.assign(this, { url, protocols })
    FakeSocket.all.push(this)
  }

  send(text) {
    if (this.readyState !== 1) throw new DOMException("not open", "InvalidStateError")
    this.sent.push(typeof text === "string" ? JSON.parse(text) : text)
  }

  close(code) {
    this.readyState = 3
    this.closed = code
  }

  // ---- the test's end

  open() {
    this.readyState = 1
    this.onopen?.()
    return this
  }

  /** Has the sidecar say something. */
  say(frame) {
    this.onmessage?.({
      data: typeof frame === "object" && !(frame instanceof ArrayBuffer) ? JSON.stringify(frame) : frame,
    })
    return this
  }

  end(code = 1006, reason = "") {
    this.readyState = 3
    this.onclose?.({ code, reason: typeof reason === "object" ? JSON.stringify(reason) : reason })
  }

  requests(method) {
    return this.sent.filter((message) => message.method === method)
  }

  /** The subscriptions that were asked for. */
  get asked() {
    return this.requests("state_stream.subscribe").flatMap((request) => request.params)
  }

  /** Acknowledges what a request subscribes to, where it wants to go on. */
  answer(request, more = {}) {
    const subscriptions = request.params.map(({ stream, key, since }) => ({
      stream,
      ...(key === undefined ? {} : { key }),
      declared: true,
      epoch: "e",
      seq: 0,
      ...(since ? { ...since, recovered: true, replayed: 0 } : {}),
      ...more,
    }))
    return this.say({ jsonrpc: "2.0", id: request.id, result: { subscriptions } })
  }

  refuse(request, error) {
    return this.say({ jsonrpc: "2.0", id: request.id, error })
  }

  /** Opens, says welcome, acknowledges everything, and answers the ping behind that. */
  begin(row = {}) {
    this.open().say(WELCOME)
    this.acknowledge(row)
    return this.pong()
  }

  acknowledge(row = {}) {
    for (const request of this.requests("state_stream.subscribe")) this.answer(request, row)
    return this
  }

  pong() {
    const ping = this.sent.filter((message) => message.type === "ping").at(-1)
    return this.say({ type: "pong", timestamp: ping.timestamp, server_time: 1 })
  }
}

export const block = (seq, more = {}) => ({
  type: "block_update",
  stream: "block_updates",
  epoch: "e",
  seq,
  time: 1,
  data: { height: 100 + seq, timestamp: seq },
  ...more,
})
export const metrics = (seq, more = {}) => ({
  type: "metrics_update",
  stream: "metrics",
  epoch: "e",
  seq,
  time: 1,
  data: { tps: seq },
  ...more,
})

/** HTTP as a sidecar answers it, from what has been published. */
export class FakeHttp {
  asked = []
  streams = new Map() // name -> updates
  down = false
  sse = null // the body of /events, while they are served
  config = null
  limit = 1000
  trimmed = 0 // seqs up to here are no longer held

  publish(...updates) {
    for (const update of updates) {
      if (!this.streams.has(update.stream)) this.streams.set(update.stream, [])
      this.streams.get(update.stream).push(update)
    }
  }

  /** Returns the paths that were asked for, and forgets them. */
  take() {
    return this.asked.splice(0).map(({ path }) => path)
  }

  fetch = async (href, { headers = {}, signal } = {}) => {
    const url = new URL(href)
    this.asked.push({ path: url.pathname + url.search, headers })
    this.before?.(url.pathname)
    await null
    if (signal?.aborted) throw new DOMException("aborted", "AbortError")
    if (this.gate) {
      const answered = this.#route(url, headers, signal)
      await this.gate
      return answered
    }
    if (this.hang) return new Promise((_, reject) => signal.addEventListener("abort", () => reject(signal.reason)))
    if (this.down) throw new TypeError("fetch failed")
    if (this.status) return answer(this.status, null, this.more)
    return this.#route(url, headers, signal)
  }

  #route(url, headers, signal) {
    if (url.pathname === "/config.json") return this.config ? answer(200, this.config) : answer(404, null)
    if (url.pathname === "/events") return this.sse ? this.#events(headers, signal) : answer(404, null)
    const [, , stream, history] = url.pathname.split("/")
    const updates = this.streams.get(stream)
    if (!updates?.length) return answer(404, null)
    const key = url.searchParams.get("key") ?? undefined
    if (history) return this.#history(updates, url.searchParams, key)
    const keyed = updates.some((update) => update.key !== undefined)
    const newest = updates.filter((update) => key === undefined || update.key === key).at(-1)
    const etag = `"${newest.epoch}-${newest.seq}"`
    if (headers["If-None-Match"] === etag) return answer(304, null, { ETag: etag })
    const values = [...new Map(updates.map((update) => [update.key, update])).values()]
    return answer(200, keyed && key === undefined ? { stream, keys: values.length, updates: values } : newest, {
      ETag: etag,
    })
  }

  #history(updates, params, key) {
    const [, epoch, seq] = /^(.+)-(\d+)$/.exec(params.get("since"))
    const current = updates.at(-1).epoch
    if (epoch !== current) return answer(410, null)
    const held = updates.filter((update) => update.epoch === current && update.seq > Math.max(seq, this.trimmed))
    const found = held.filter((update) => key === undefined || update.key === key)
    const page = found.slice(0, this.limit)
    const more = found.length > page.length ? { next: { epoch, seq: page.at(-1).seq } } : {}
    const missed = this.trimmed > seq ? { missed: { from: Number(seq) + 1, to: this.trimmed } } : {}
    return answer(200, { updates: page, ...more, ...missed })
  }

  #events(headers, signal) {
    const http = this
    const body = new ReadableStream({
      start(controller) {
        http.events = {
          lastEventId: headers["Last-Event-ID"],
          send: (text) => controller.enqueue(new TextEncoder().encode(text)),
          update: (update, id = "id: x\n") => http.events.send(`${id}data: ${JSON.stringify(update)}\n\n`),
          /** Says where subscriptions begin, as the first event. */
          subscribed: (...rows) => {
            const subscriptions = rows.map((row) => ({ declared: true, epoch: "e", ...row }))
            http.events.send(`event: subscribed\ndata: ${JSON.stringify({ type: "subscribed", subscriptions })}\n\n`)
          },
          end: () => controller.close(),
        }
        signal.addEventListener("abort", () => {
          try {
            controller.error(new DOMException("aborted", "AbortError"))
          } catch {}
        })
      },
    })
    return new Response(body, { status: 200, headers: { "Content-Type": "text/event-stream" } })
  }
}

const answer = (status, body, headers = {}) =>
  new Response(body === null ? null : JSON.stringify(body), { status, headers })

export class FakeDocument extends EventTarget {
  hidden = false
  listeners = 0

  addEventListener(...words) {
    this.listeners++
    super.addEventListener(...words)
  }

  removeEventListener(...words) {
    this.listeners--
    super.removeEventListener(...words)
  }

  show(shown) {
    this.hidden = !shown
    this.dispatchEvent(new Event("visibilitychange"))
  }
}

export class FakeStorage {
  values = new Map()
  getItem = (name) => this.values.get(name) ?? null
  setItem = (name, value) => void this.values.set(name, String(value))
}

/** Makes a client in a fake browser. */
export function make(options = {}) {
  FakeSocket.all = []
  FakeSocket.refuse = null
  const clock = new FakeClock()
  const http = new FakeHttp()
  const document = new FakeDocument()
  const lines = []
  const say =
    (level) =>
    (...words) =>
      lines.push([level, ...words])
  const log = Object.fromEntries(["debug", "info", "warn", "error"].map((level) => [level, say(level)]))
  const ws = new BlockWebSocket("ws://sidecar:5000/ws", {
    WebSocket: FakeSocket,
    fetch: http.fetch,
    clock,
    document,
    log,
    random: () => 0.5,
    streams: ["block_updates"],
    ...options,
  })
  const told = []
  ws.on("*", (_data, update) => told.push(update))
  const heard = []
  for (const name of ["connected", "disconnected", "subscribed", "refused", "gap", "gave_up", "upstream", "going_away"])
    ws.on(`ws:${name}`, (event) => heard.push([name, event]))
  return {
    ws,
    clock,
    http,
    document,
    lines,
    told,
    get socket() {
      return FakeSocket.all.at(-1)
    },
    get sockets() {
      return FakeSocket.all
    },
    seqs: () => told.map((update) => update.seq),
    events: (name) => heard.filter(([found]) => found === name).map(([, event]) => event),
    /** Mounts, and has the sidecar begin. */
    async connected(row) {
      ws.mount()
      await settle()
      this.socket.begin(row)
      return this
    },
  }
}
