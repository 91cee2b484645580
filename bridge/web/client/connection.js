/** One WebSocket connection: a welcome, frames, requests with their answers, signs of life, and one end. */
import { isUpdate } from "./positions.js"
import { readReason } from "./retry.js"
import { Timers } from "./timers.js"

const CONNECT_MS = 10_000 // for the connection, welcome included
const PINGS = 100 // without a pong, while other things come
const ANSWER_MS = 10_000 // for the answer to a request, and for any sign of life after a ping

export class Connection {
  /** Whether the sidecar has said welcome. */
  welcomed = false
  #socket
  #parts
  #timers
  #requests = new Map() // by id
  #pings = new Map() // what to call, by timestamp
  #number = 0
  #retryAfterMs // when the sidecar wants to see the client again, once it has said that it goes away

  /**
   * Takes a socket that is being opened, the codec of its frames, and what is counted. Calls `opened(welcome)` once the
   * sidecar has said so, `take(frame)` with all that is no answer, `lost(how)` at the end, unless that is by `close`.
   */
  constructor(socket, parts) {
    this.#socket = socket
    this.#parts = parts
    this.#timers = new Timers(parts.clock)
    socket.binaryType = "arraybuffer"
    socket.onmessage = ({ data }) => this.#receive(data)
    socket.onerror = () => {} // a close follows
    socket.onclose = ({ code, reason }) => this.#end(code, readReason(reason))
    this.#timers.set("connect", CONNECT_MS, () => this.#lose({ sentence: "no answer in time" }))
  }

  /** Ends it; nothing of it is heard any more. */
  close() {
    this.#timers.clearAll()
    const socket = this.#socket
    socket.onmessage = socket.onerror = socket.onclose = null
    try {
      socket.close(1000)
    } catch {} // it never came about
    const requests = [...this.#requests.values()]
    this.#requests.clear()
    this.#pings.clear()
    this.welcomed = false
    for (const { reject } of requests) reject(new Error("the connection was lost"))
  }

  #lose(lost) {
    const { welcomed } = this
    this.close()
    this.#parts.lost({ retryAfterMs: this.#retryAfterMs, ...lost, welcomed })
  }

  #end(code, { message, error, retry_after_ms = this.#retryAfterMs }) {
    const words = message ?? error
    this.#lose({ code, retryAfterMs: retry_after_ms, sentence: `closed with ${code}${words ? `, ${words}` : ""}` })
  }

  // What comes

  #receive(payload) {
    const { codec, counts, opened, take } = this.#parts
    counts.messagesReceived++
    this.#timers.clear("pong")
    let frame
    try {
      frame = codec.decode(payload)
    } catch (error) {
      counts.errors++
      return this.#lose({ sentence: `a frame cannot be read: ${error.message}`, fault: true })
    }
    if (!this.welcomed) {
      if (frame.type !== "welcome") return this.#lose({ sentence: "there was no welcome", fault: true })
      this.welcomed = true
      this.#timers.clear("connect")
      return opened(frame)
    }
    if (isUpdate(frame)) take(frame)
    else if (frame.jsonrpc) this.#takeAnswer(frame)
    else if (frame.type === "pong") this.#takePong(frame)
    else {
      if (frame.type === "going_away") this.#retryAfterMs = frame.retry_after_ms
      take(frame)
    }
  }

  #takeAnswer({ id, result, error }) {
    const request = this.#requests.get(id)
    if (error) request?.reject(Object.assign(new Error(error.message), error))
    else request?.resolve(result)
  }

  #takePong({ timestamp }) {
    const answered = this.#pings.get(timestamp)
    this.#pings.delete(timestamp)
    answered?.()
  }

  // What is sent

  /** Sends a message: a request, or a ping; returns whether there was a connection. Throws if it cannot be encoded. */
  send(message) {
    const payload = this.#parts.codec.encode(message)
    if (!this.welcomed) return false
    this.#socket.send(payload)
    this.#parts.counts.messagesSent++
    return true
  }

  /** Calls a method. What is called with the answer is called before anything that comes behind it is read. */
  call(method, params, resolve, reject) {
    const id = ++this.#number
    const timer = `request ${id}`
    const settle = (told) => (value) => {
      this.#requests.delete(id)
      this.#timers.clear(timer)
      told(value)
    }
    const request = { resolve: settle(resolve), reject: settle(reject) }
    this.#requests.set(id, request)
    this.#timers.set(timer, ANSWER_MS, () => request.reject(new Error(`${method} is not answered`)))
    try {
      if (!this.send({ method, params, id })) request.reject(new Error("there is no connection"))
    } catch (error) {
      request.reject(Object.assign(error, { code: -32602 }))
    }
  }

  /** Sends a ping; its pong comes behind all that the sidecar sends in answer to what it was asked before. */
  ping(answered = () => {}) {
    const { clock, counts, pingInterval } = this.#parts
    const sent = clock.now()
    if (this.#pings.size >= PINGS) this.#pings.clear()
    const timestamp = Math.max(sent, ...[...this.#pings.keys()].map((earlier) => earlier + 1))
    this.#pings.set(timestamp, () => {
      counts.latency = clock.now() - sent
      answered()
    })
    this.send({ type: "ping", timestamp })
    this.#timers.set("pong", ANSWER_MS, () => this.#lose({ sentence: "the sidecar has gone silent" }))
    this.#timers.set("ping", pingInterval, () => this.ping())
  }
}
