/** Feature flags: what the sidecar's config says, for all visitors or a share, and what this browser overrides. */

const OVERRIDES = "theblock.features"
const VISITOR = "theblock.visitor"

/** Keeps values for as long as the page lives: where there is no localStorage, or it may not be used. */
class Memory {
  #values = new Map()
  getItem = (name) => this.#values.get(name) ?? null
  setItem = (name, value) => void this.#values.set(name, value)
}

/** Returns the browser's storage if it works, else one for the life of the page. */
function workingStorage(wanted) {
  try {
    const storage = wanted ?? globalThis.localStorage
    storage.setItem("theblock.works", "1")
    return storage
  } catch {
    return new Memory()
  }
}

/** Returns a number from 0 up to 100 that is always the same for a text, and evenly spread over texts (FNV-1a). */
export function percentOf(text) {
  let hash = 0x811c9dc5
  for (let index = 0; index < text.length; index++) hash = Math.imul(hash ^ text.charCodeAt(index), 0x01000193)
  hash = Math.imul(hash ^ (hash >>> 16), 0x85ebca6b)
  hash = Math.imul(hash ^ (hash >>> 13), 0xc2b2ae35)
  return (((hash ^ (hash >>> 16)) >>> 0) / 2 ** 32) * 100
}

export class Features {
  #flags
  #overrides = {}
  #storage

  /** A flag is true, false or the percentage of visitors; overrides and the visitor's id are kept in the storage. */
  constructor({ flags = { websockets: true }, storage, random = Math.random } = {}) {
    this.#flags = { ...flags }
    this.#storage = workingStorage(storage)
    try {
      this.#overrides = Object(JSON.parse(this.#storage.getItem(OVERRIDES) ?? "{}"))
    } catch {} // somebody else wrote there
    /** The id that keeps a visitor on one side of a rollout; it names nobody. */
    this.visitor = this.#storage.getItem(VISITOR) ?? ""
    if (!this.visitor) {
      while (this.visitor.length < 16) this.visitor += Math.floor(random() * 16).toString(16)
      this.#keep(VISITOR, this.visitor)
    }
  }

  /** Takes flags over from the sidecar's config. */
  configure(flags) {
    for (const [name, value] of Object.entries(flags))
      if (typeof value === "boolean" || typeof value === "number") this.#flags[name] = value
  }

  /** Whether a feature is on for this visitor; one that is not known is off. */
  isEnabled(name) {
    if (typeof this.#overrides[name] === "boolean") return this.#overrides[name]
    const flag = this.#flags[name] ?? false
    return typeof flag === "number" ? percentOf(`${name}:${this.visitor}`) < flag : flag
  }

  /** Turns a feature on in this browser, from the next load on too. */
  enable(name) {
    this.#override(name, true)
  }

  /** Turns a feature off in this browser. */
  disable(name) {
    this.#override(name, false)
  }

  /** Takes back what `enable` or `disable` has said. */
  reset(name) {
    this.#override(name, undefined)
  }

  /** Returns every feature that is known, and whether it is on. */
  getAll() {
    const names = new Set([...Object.keys(this.#flags), ...Object.keys(this.#overrides)])
    return Object.fromEntries([...names].map((name) => [name, this.isEnabled(name)]))
  }

  #override(name, value) {
    this.#overrides = { ...this.#overrides, [name]: value }
    if (value === undefined) delete this.#overrides[name]
    this.#keep(OVERRIDES, JSON.stringify(this.#overrides))
  }

  #keep(name, value) {
    try {
      this.#storage.setItem(name, value)
    } catch {} // full: it holds until the page is left
  }
}
