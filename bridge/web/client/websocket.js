/** The client: updates of a sidecar, over as many connections as it takes. */
import { Connection } from "./connection.js"
import { FetchEventSource } from "./events.js"
import { Fallback } from "./fallback.js"
import { Http, Token, httpBase } from "./http.js"
import { JsonCodec } from "./json.js"
import { Positions, isUpdate, nameOf } from "./positions.js"
import { Retry } from "./retry.js"
import { Store, storeHandlers } from "./store.js"
import { CLOCK, Timers } from "./timers.js"

export const DEFAULT_URL = "ws://localhost:5000/ws"
export const DEFAULT_STREAMS = ["block_updates", "metrics", "network", "trading"]
export const TRANSPORTS = ["websocket", "sse", "polling"]

const STEADY_MS = 5000 // after which a connection counts as good
const PAINT_MS = 2000 // for the values that are shown first
const LATER = new Set([-32010, -32029]) // error codes after which asking again helps

const DEFAULTS = {
  streams: DEFAULT_STREAMS,
  format: "json",
  transports: TRANSPORTS,
  maxReconnectAttempts: Infinity,
  pingInterval: 30_000,
  reconnectDelay: 1000,
  reconnectCap: 30_000,
  fallbackDelay: 3000,
  pollInterval: 2000,
  hiddenDelay: 60_000,
  clock: CLOCK,
  random: Math.random,
  EventSource: FetchEventSource,
  log: console,
}

/** Returns the options with what they leave out. */
function complete(options) {
  const { fetch = globalThis.fetch, WebSocket = globalThis.WebSocket, document = globalThis.document } = options
  const given = Object.fromEntries(Object.entries(options).filter(([, value]) => value !== undefined))
  // A browser's fetch must not be called as a method of another object.
  return { ...DEFAULTS, ...given, WebSocket, document, fetch: fetch && ((...request) => fetch(...request)) }
}

/** Reads updates from a sidecar. Its options and notices are in theblock.d.ts. */
export class BlockWebSocket {
  /** The names of what is subscribed to: a stream, or `stream/key`. */
  subscriptions = new Set()
  /** Sets of handlers by type of update, or by the name of a notice of the connection. */
  messageHandlers = new Map()

  #options
  #timers
  #positions
  #http
  #token
  #retry
  #fallback
  #counts = {
    messagesReceived: 0,
    messagesSent: 0,
    reconnects: 0,
    latency: null,
    updates: 0,
    recovered: 0,
    replayed: 0,
    repeated: 0,
    gaps: 0,
    missed: 0,
    errors: 0,
  }
  #codec = null
  #connection = null
  #preparing = null // what a try waits for before it can begin
  #painting = null // while current values are on their way
  #endPaint = () => {}
  #postponed = new Set() // places that are to be asked for again
  #active = false // mounted
  #asleep = false // nobody looks
  #gaveUp = false // on the WebSocket
  #wasConnected = false // at any time

  /** Takes the URL of the WebSocket and options, or options alone. */
  constructor(url, options = {}) {
    if (url !== null && typeof url === "object") [url, options] = [url.url, url]
    const all = (this.#options = complete(options))
    const { clock, log, fetch, int64, pollInterval, EventSource } = all
    /** Of the WebSocket. */
    this.url = url ?? globalThis.BLOCK_BUSTER_WS ?? DEFAULT_URL
    /** After how many tries in a row without a steady connection the WebSocket is given up. */
    this.maxReconnectAttempts = all.maxReconnectAttempts
    /** What is shown. */
    this.store = all.store ?? new Store({ clock, log })
    this.#timers = new Timers(clock)
    this.#token = new Token(all.token)
    this.#retry = new Retry(all)
    this.#positions = new Positions(this.#counts)
    this.#http = new Http({ base: httpBase(this.url), fetch, token: this.#token, clock, int64 })
    this.#fallback = new Fallback({
      http: this.#http,
      positions: this.#positions,
      clock,
      EventSource,
      pollInterval,
      transports: new Set(all.transports),
      tell: (frames) => this.#tell(frames),
      acknowledge: (rows) => this.#acknowledge(rows),
      changed: () => this.#publish(),
    })
    for (const [type, handler] of storeHandlers(this.store)) this.on(type, handler)
    for (const one of all.streams) typeof one === "string" ? this.#add(one) : this.#add(one.stream, one)
  }

  // What users see

  /** How many tries there were since the last steady connection; set it to 0 to begin anew. */
  get reconnectAttempts() {
    return this.#retry.attempts
  }

  set reconnectAttempts(value) {
    this.#retry.attempts = value
  }

  /** The longest that the next pause between tries may be, milliseconds. */
  get reconnectDelay() {
    return this.#retry.delay
  }

  set reconnectDelay(value) {
    this.#retry.delay = value
  }

  /** What feeds the dashboard now: websocket, sse, polling or none. */
  get transport() {
    return this.isConnected() ? "websocket" : this.#fallback.transport
  }

  /** Whether the WebSocket is open, and the sidecar has said welcome. */
  isConnected() {
    return this.#connection?.welcomed ?? false
  }

  /** Returns what has been counted so far; `latency` is that of the last ping, milliseconds. */
  getMetrics() {
    return { ...this.#counts }
  }

  /** Returns where a subscription would be resumed, {epoch, seq}; null: nothing has come yet. */
  position(stream, key) {
    return this.#positions.places.get(nameOf(stream, key))?.settled ?? null
  }

  /** Begins: shows the current values, connects, and looks after the connection until `unmount`. */
  mount() {
    if (this.#active) return this
    this.#active = true
    this.#asleep = false
    this.#options.document?.addEventListener("visibilitychange", this.#look)
    this.#goOffline()
    this.paint()
    this.connect()
    if (this.#options.document?.hidden) this.#look()
    return this
  }

  /** Ends: closes the connection; no timer, request or listener is left. Positions are kept for another `mount`. */
  unmount() {
    if (!this.#active) return
    this.#active = false
    this.#options.document?.removeEventListener("visibilitychange", this.#look)
    this.#rest()
    this.#timers.clearAll()
    this.#retry.reset()
  }

  /** Connects now, if there is no connection: also after the WebSocket has been given up. */
  connect() {
    if (!this.#active) return void this.mount()
    if (this.#connection || this.#preparing || this.#asleep) return
    const { transports, WebSocket, format } = this.#options
    this.#timers.clear("reconnect")
    this.#gaveUp = !transports.includes("websocket") || !WebSocket
    if (this.#gaveUp) return this.#fallBack()
    if (format === "json") this.#codec ??= new JsonCodec(this.#options)
    if (this.#codec && !this.#token.waits) return this.#dial(this.#token.peek())
    const preparing = (this.#preparing = Promise.all([this.#token.get(true), this.#loadCodec()]))
    const next = (step) => (value) => {
      if (this.#preparing !== preparing) return
      this.#preparing = null
      step(value)
    }
    preparing.then(
      next(([token]) => this.#dial(token)),
      next((error) => this.#lose({ sentence: `it cannot begin: ${error.message}` })),
    )
  }

  /** Shows the current values of what has none yet, over HTTP; resolves when they are there, or after two seconds. */
  paint() {
    const places = [...this.#positions.places.values()].filter((place) => !place.settled && !place.replays)
    if (this.#painting || places.length === 0 || !this.#options.fetch) return this.#painting ?? Promise.resolve()
    const abort = new AbortController()
    this.#painting = new Promise((resolve) => {
      const end = () => {
        abort.abort()
        this.#timers.clear("paint")
        this.#painting = null
        resolve()
      }
      this.#endPaint = end
      this.#timers.set("paint", PAINT_MS, end)
      this.#fallback.round(places, abort.signal).then(() => abort.signal.aborted || end())
    })
    return this.#painting
  }

  /** Subscribes to a stream, or changes the options of a subscription in place. */
  subscribe(stream, options = {}) {
    const place = this.#add(stream, options)
    if (this.isConnected() && !this.#painting) this.#ask([place])
    else this.#fallback.restart()
  }

  /** Ends a subscription. */
  unsubscribe(stream, { key } = {}) {
    const name = nameOf(stream, key)
    if (!this.subscriptions.delete(name)) return
    this.#positions.places.delete(name)
    if (this.isConnected()) this.request("state_stream.unsubscribe", [{ stream, key }]).catch(() => {})
    else this.#fallback.restart()
  }

  /** Calls `handler(data, update)` for every update of a type, or for a notice; returns what ends that. */
  on(type, handler) {
    if (!this.messageHandlers.has(type)) this.messageHandlers.set(type, new Set())
    this.messageHandlers.get(type).add(handler)
    return () => this.off(type, handler)
  }

  /** Lets a handler go, or all of a type. */
  off(type, handler) {
    const handlers = this.messageHandlers.get(type)
    if (handler) handlers?.delete(handler)
    if (!handler || handlers?.size === 0) this.messageHandlers.delete(type)
  }

  /** Sends a message: a request of `method`, `params` and `id`, or a ping; returns whether there was a connection. */
  send(message) {
    return this.#connection?.send(message) ?? false
  }

  /** Calls a method of the sidecar; resolves with its result, rejects with an Error that may have `code` and `data`. */
  request(method, params = []) {
    return new Promise((resolve, reject) => {
      if (this.#connection) this.#connection.call(method, params, resolve, reject)
      else reject(new Error("there is no connection"))
    })
  }

  /** Connects again after a pause, unless there were as many tries as are allowed. */
  scheduleReconnect(retryAfterMs) {
    if (!this.#active) return
    const { attempts } = this.#retry
    if (attempts >= this.maxReconnectAttempts) return this.#giveUp(`there were ${attempts} tries in a row`)
    const wait = this.#retry.next(retryAfterMs)
    this.#log("info", `Reconnecting in ${Math.round(wait)}ms (attempt ${attempts + 1})...`)
    this.#timers.set("reconnect", wait, () => this.connect())
    this.#publish()
  }

  // Connections

  #add(stream, { stream: _stream, ...options } = {}) {
    const place = this.#positions.add(stream, options)
    this.subscriptions.add(place.name)
    return place
  }

  async #loadCodec() {
    if (this.#codec) return
    const schema = this.#http.get("/schema.binpb", { type: "arrayBuffer" })
    const [{ ProtoCodec }, { status, body }] = await Promise.all([import("./proto.js"), schema])
    if (!body) throw new Error(`/schema.binpb is answered with HTTP ${status}`)
    this.#codec = new ProtoCodec(new Uint8Array(body), this.#options)
  }

  #dial(token) {
    const { clock, pingInterval, WebSocket } = this.#options
    const protocols = [this.#codec.subprotocol, ...(token ? [`bearer.${token}`] : [])]
    const query = new URLSearchParams(this.#codec.query).toString()
    const url = query ? `${this.url}${this.url.includes("?") ? "&" : "?"}${query}` : this.url
    let socket
    try {
      socket = new WebSocket(url, protocols)
    } catch (error) {
      return this.#giveUp(`it cannot be made (${error.name}): look at its URL and its token`)
    }
    this.#connection = new Connection(socket, {
      codec: this.#codec,
      counts: this.#counts,
      clock,
      pingInterval,
      opened: (welcome) => this.#begin(welcome),
      take: (frame) => this.#tell(this.#positions.take(frame)),
      lost: (lost) => this.#lose(lost),
    })
  }

  #begin(welcome) {
    this.#timers.clear("fallback")
    this.#fallback.stop()
    this.#timers.set("steady", STEADY_MS, () => this.#retry.reset())
    if (this.#wasConnected) this.#counts.reconnects++
    this.#wasConnected = true
    this.#log("info", "Connected")
    this.#publish()
    this.#emit("ws:connected", welcome)
    // One source at a time feeds the positions, so what is shown first comes first.
    const connection = this.#connection
    const start = () => connection === this.#connection && this.#ask([...this.#positions.places.values()])
    if (this.#painting) this.#painting.then(start)
    else start()
  }

  /** Lets the connection go, and what is to be done on it. */
  #hangUp() {
    this.#connection?.close()
    this.#connection = this.#preparing = null
    this.#timers.clear("steady", "reconnect", "again")
    this.#postponed.clear()
  }

  #lose(lost) {
    if (lost.welcomed) this.#goOffline()
    this.#hangUp()
    this.#log("info", `Connection lost: ${lost.sentence}`)
    this.#emit("ws:disconnected", lost)
    if (!this.#active || this.#connection) return
    if (this.#retry.isFinal(lost)) this.#giveUp(lost.sentence)
    else this.scheduleReconnect(lost.retryAfterMs)
  }

  #giveUp(sentence) {
    this.#gaveUp = true
    this.#log("warn", `The WebSocket is given up: ${sentence}`)
    this.#emit("ws:gave_up", { sentence })
    this.#fallBack()
  }

  #goOffline() {
    this.#timers.set("fallback", this.#options.fallbackDelay, () => this.#fallBack())
  }

  /** Has something else feed the dashboard; what is shown first comes before that. */
  #fallBack() {
    this.#timers.clear("fallback")
    if (this.#active && !this.#asleep && !this.isConnected() && this.#options.fetch) {
      if (this.#painting) this.#painting.then(() => this.#fallBack())
      else this.#fallback.start()
    }
    this.#publish()
  }

  // A tab that nobody looks at

  #look = () => {
    const { document, hiddenDelay } = this.#options
    if (document.hidden) return this.#timers.set("hidden", hiddenDelay, () => this.#rest())
    this.#timers.clear("hidden")
    if (this.#asleep) this.#goOffline()
    this.#asleep = false
    if (this.#gaveUp) this.#fallBack()
    else this.connect()
  }

  /** Lets go of everything; positions are kept. */
  #rest() {
    this.#asleep = true
    this.#endPaint()
    this.#hangUp()
    this.#timers.clear("fallback")
    this.#fallback.stop()
    this.#publish()
  }

  // Subscriptions

  /**
   * Asks for subscriptions, all in one step: an update for several of them comes once. The pong of the ping behind that
   * says that the values which follow have come.
   */
  #ask(places) {
    if (places.length === 0) return
    const began = []
    this.#connection.call(
      "state_stream.subscribe",
      places.map((place) => place.wanted()),
      ({ subscriptions }) => began.push(...this.#acknowledge(subscriptions)),
      (error) => this.#takeRefusal(places, error),
    )
    this.#connection.ping(() => {
      this.#positions.settle(began)
      this.#publish()
    })
  }

  /** Takes where subscriptions begin; returns the places of those that are still wanted. */
  #acknowledge(rows) {
    const places = rows.map((row) => this.#positions.acknowledge(row)).filter((place) => place)
    for (const row of rows) {
      if (row.recovered) this.#counts.recovered++
      this.#counts.replayed += row.replayed ?? 0
      this.#emit("ws:subscribed", row)
    }
    return places
  }

  #takeRefusal(places, error) {
    if (!this.isConnected()) return
    const wanted = places.filter((place) => this.#positions.places.get(place.name) === place)
    const names = wanted.map(({ name }) => name).join(", ")
    if (error.code === undefined || LATER.has(error.code)) {
      // It cannot be decided now where these go on: the positions are kept.
      const wait = (error.data?.retry_after_ms ?? 1000) * (1 + this.#options.random())
      this.#log("info", `Asking for ${names} again in ${Math.round(wait)}ms: ${error.message}`)
      for (const place of wanted) this.#postponed.add(place)
      return this.#timers.set("again", wait, () => this.#askAgain())
    }
    // One bad entry has all refused: each by itself, the good ones are taken.
    if (places.length > 1) return wanted.forEach((place) => this.#ask([place]))
    for (const { name, stream, key } of wanted) {
      this.#positions.places.delete(name)
      this.subscriptions.delete(name)
      this.#log("warn", `${name} is refused: ${error.message}`)
      this.#emit("ws:refused", { stream, key, error })
    }
  }

  #askAgain() {
    const places = [...this.#postponed].filter((place) => this.#positions.places.get(place.name) === place)
    this.#postponed.clear()
    this.#ask(places)
  }

  // What is told

  #tell(frames) {
    for (const frame of frames) {
      if (!isUpdate(frame)) this.#emit(`ws:${frame.type}`, frame)
      else {
        this.#counts.updates++
        this.#emit(frame.type, frame.data, frame)
        this.#emit("*", frame.data, frame)
      }
    }
  }

  /** Calls handlers; one that throws keeps nothing from the others. */
  #emit(type, ...told) {
    for (const handler of [...(this.messageHandlers.get(type) ?? [])]) {
      try {
        handler(...told)
      } catch (error) {
        this.#counts.errors++
        this.#log("error", `A handler of ${type} threw:`, error)
      }
    }
  }

  /** Writes the state of the connection to the store. */
  #publish() {
    const { store, transport } = this
    const getMetrics = () => this.getMetrics()
    store.set("ws", {
      connected: this.isConnected(),
      transport,
      hidden: this.#active && this.#asleep,
      gaveUp: this.#gaveUp,
      reconnectAttempts: this.#retry.attempts,
      get metrics() {
        return getMetrics()
      },
    })
    store.set("usePolling", transport === "polling")
  }

  #log(level, sentence, ...more) {
    this.#options.log[level]?.(`[WS] ${sentence}`, ...more)
  }
}
