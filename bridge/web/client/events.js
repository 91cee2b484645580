/**
 * Server-Sent Events over fetch. The browser's EventSource can neither begin behind a position, since it sends
 * Last-Event-ID only when it comes back by itself, nor show a token.
 */

/** How long nothing may come, comments included: the connection is dead, or something on the way holds it all back. */
const SILENCE_MS = 45_000

const LONGEST_LINE = 16 << 20

export class FetchEventSource {
  onmessage = () => {}
  onerror = () => {}
  #abort = new AbortController()

  /** @param {{fetch: typeof fetch, headers?: Record<string, string>, lastEventId?: string, clock: object}} options */
  constructor(url, { fetch, headers = {}, lastEventId, clock }) {
    const more = lastEventId ? { "Last-Event-ID": lastEventId } : {}
    const request = { headers: { Accept: "text/event-stream", ...headers, ...more }, signal: this.#abort.signal }
    this.#run(() => fetch(url, request), clock)
  }

  /** Ends it; nothing is called any more. */
  close() {
    this.onmessage = this.onerror = () => {}
    this.#abort.abort()
  }

  async #run(request, clock) {
    let timer
    const watch = () => {
      clock.clearTimeout(timer)
      timer = clock.setTimeout(() => this.#abort.abort(), SILENCE_MS)
    }
    let status = 0
    try {
      watch()
      const response = await request()
      status = response.status
      const type = response.headers.get("Content-Type") ?? ""
      if (status !== 200 || !type.startsWith("text/event-stream")) throw new Error(`HTTP ${status} ${type}`)
      await this.#read(response.body.getReader(), watch)
    } catch {} // told below
    clock.clearTimeout(timer)
    this.onerror({ status })
  }

  async #read(reader, watch) {
    const decoder = new TextDecoder()
    let rest = ""
    let event = {}
    for (;;) {
      const { done, value } = await reader.read()
      if (done) return
      watch()
      const lines = (rest + decoder.decode(value, { stream: true })).split(/\r\n|\n|\r(?!$)/)
      rest = lines.pop()
      if (rest.length > LONGEST_LINE) throw new Error("a line is too long")
      for (const line of lines) event = this.#line(line, event)
    }
  }

  /** Takes a line of the stream (HTML standard, section 9.2.6); returns the event as it is so far. */
  #line(line, event) {
    if (line === "") {
      if (event.data !== undefined) this.onmessage({ type: "message", lastEventId: "", ...event })
      return {}
    }
    const [, field, value] = /^([^:]*):? ?(.*)$/s.exec(line)
    if (field === "data") return { ...event, data: event.data === undefined ? value : `${event.data}\n${value}` }
    if (field === "event") return { ...event, type: value }
    if (field === "id") return { ...event, lastEventId: value }
    return event
  }
}
