/** When a client comes back, and when it does not. */

/** Close codes that say that one of the two sides has to be mended (RFC 6455, section 7.4.1). */
const FAULTY = new Set([1002, 1003, 1007, 1008, 1009, 1010])

/** How many such ends in a row, with no steady connection between them, are the last. */
const FAULTS = 3

/** The longest that a sidecar may send a client away for. */
const LONGEST_MS = 600_000

/** Reads the reason of a close: compact JSON, or words. */
export function readReason(reason) {
  try {
    const told = JSON.parse(reason)
    if (told !== null && typeof told === "object") return told
  } catch {} // words
  return reason ? { message: String(reason) } : {}
}

/** Pauses between tries: random, up to a length that doubles with each and begins anew after a steady connection. */
export class Retry {
  /** How many tries there were since the last steady connection. */
  attempts = 0
  #faults = 0
  #first
  #cap
  #random

  constructor({ reconnectDelay, reconnectCap, random }) {
    this.#first = reconnectDelay
    this.#cap = reconnectCap
    this.#random = random
    /** The longest that the next pause may be, milliseconds. */
    this.delay = reconnectDelay
  }

  /** Begins anew: the connection is steady, or the user asks for it. */
  reset() {
    this.attempts = this.#faults = 0
    this.delay = this.#first
  }

  /** Whether coming back would not help after such an end. */
  isFinal({ code, fault }) {
    if (fault || FAULTY.has(code)) this.#faults++
    return (code >= 4500 && code < 5000) || this.#faults >= FAULTS
  }

  /** Returns how long to wait before the next try: what the sidecar asks for, and a random bit more. */
  next(retryAfterMs = 0) {
    const wait = Math.min(Math.max(0, Number(retryAfterMs) || 0), LONGEST_MS) + this.#random() * this.delay
    this.attempts++
    this.delay = Math.min(this.delay * 2, this.#cap)
    return wait
  }
}
