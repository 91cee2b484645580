/** HTTP requests to the sidecar, with a deadline each, and the token that goes with them. */

const DEADLINE_MS = 5000

/** A token that is asked for when it is needed first, and again once it has been refused. */
export class Token {
  #source
  #value = null
  #asked = null // while it is on its way

  /** @param {string | (() => string | Promise<string>) | undefined} source */
  constructor(source) {
    this.#source = source
  }

  /** Whether getting it may take a moment. */
  get waits() {
    return typeof this.#source === "function"
  }

  async get(renew = false) {
    if (!this.waits) return this.#source
    if (this.#value !== null && !renew) return this.#value
    this.#asked ??= Promise.resolve()
      .then(this.#source)
      .finally(() => (this.#asked = null))
    return (this.#value = await this.#asked)
  }

  /** Returns the token as it is known. */
  peek() {
    return this.waits ? this.#value : this.#source
  }

  forget() {
    this.#value = null
  }
}

/** Returns the address of the sidecar's HTTP server: that of its WebSocket, without the /ws. */
export function httpBase(url) {
  const { protocol, host, pathname } = new URL(url, globalThis.location?.href)
  return `${protocol.replace(/^ws/, "http")}//${host}${pathname.replace(/\/(ws)?$/, "")}`
}

export class Http {
  constructor({ base, fetch, token, clock, int64 }) {
    Object.assign(this, { base, fetch, token, clock })
    this.query = int64 === "string" ? { int64 } : {}
  }

  /** Returns the URL of a path; `query` is a list of names and values, those without a value are left out. */
  url(path, query = []) {
    const wanted = [...query, ...Object.entries(this.query)].filter(([, value]) => value !== undefined)
    return `${this.base}${path}${wanted.length ? `?${new URLSearchParams(wanted)}` : ""}`
  }

  async headers(more = {}) {
    const token = await this.token?.get()
    return token ? { ...more, Authorization: `Bearer ${token}` } : more
  }

  /**
   * Asks for a path; returns its status, entity tag and JSON body, and after how many milliseconds to come back if the
   * sidecar says so. Rejects if there is no answer in time.
   */
  async get(path, { query, etag, signal, deadline = DEADLINE_MS, type = "json" } = {}) {
    const abort = new AbortController()
    const stop = () => abort.abort()
    const timer = this.clock.setTimeout(stop, deadline)
    signal?.addEventListener("abort", stop)
    if (signal?.aborted) stop()
    try {
      const headers = await this.headers(etag ? { "If-None-Match": etag } : {})
      const response = await this.fetch(this.url(path, query), { headers, signal: abort.signal })
      if (response.status === 401) this.token?.forget()
      const retryAfterMs = 1000 * (Number(response.headers.get("Retry-After")) || 0)
      const body = response.ok ? await response[type]() : null
      return { status: response.status, etag: response.headers.get("ETag"), retryAfterMs, body }
    } finally {
      this.clock.clearTimeout(timer)
      signal?.removeEventListener("abort", stop)
    }
  }
}
