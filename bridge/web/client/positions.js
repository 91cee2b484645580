/**
 * Where a client stands with each subscription: so that it resumes without loss or repeat, and notices either. No I/O.
 *
 * A place moves with what comes for it. An acknowledgement puts it where the sidecar says, and it is resumed from there
 * once the values that follow have come too; an update moves it to its seq, a progress frame to that of the stream; a
 * snapshot only where it stands in for what was missed. What is polled is not acknowledged: there the first value puts
 * the place.
 */
import { matches } from "./where.js"

/** Streams of which updates may be skipped; a subscription to another such stream says `delivery: "latest"`. */
export const LATEST = new Set(["metrics", "network", "energy"])

const NOWHERE = { epoch: "", seq: 0 }

/** Returns the name of a subscription: the stream, and its key where there is one. */
export const nameOf = (stream, key) => (key === undefined ? stream : `${stream}/${key}`)

export const isUpdate = (frame) => frame.seq !== undefined && frame.data !== undefined

class Place {
  at = NOWHERE // up to where everything has come, from where it comes now
  settled = null // where the next connection goes on; null: it asks as at first
  gap = null // that was announced, while what follows it is still to come
  etag = null // of the value that was polled last

  constructor(stream, options) {
    this.stream = stream
    this.key = options.key
    this.options = options
    this.name = nameOf(stream, this.key)
    if (options.since?.epoch) this.settled = options.since
  }

  get latest() {
    return this.options.delivery ? this.options.delivery === "latest" : LATEST.has(this.stream)
  }

  /** Whether where it begins was asked for, so that the current value is not wanted. */
  get replays() {
    return this.options.since !== undefined || this.options.last !== undefined
  }

  /** Whether the stream begins anew: what comes next may have any position. */
  get renewed() {
    return this.gap?.reason === "epoch"
  }

  /** Returns what to subscribe with: it goes on where it stands. */
  wanted() {
    const { delivery, since, last, ...options } = this.options
    const start = this.settled ? { since: this.settled } : since ? { since } : last ? { last } : {}
    return { stream: this.stream, ...options, ...start }
  }

  move({ epoch, seq }) {
    this.at = this.settled = { epoch, seq }
    this.gap = null
  }

  repeats({ epoch, seq }) {
    return epoch === this.at.epoch && seq <= this.at.seq
  }

  /** Returns what should have come before an update, did not, and was not announced; null: nothing. */
  holeBefore(update, alone) {
    if (this.renewed || !this.at.epoch) return null
    if (update.epoch !== this.at.epoch) return this.gapTo(update, 0, alone ? "epoch" : "unexplained")
    const last = this.key === undefined ? update.seq - 1 : (update.prev ?? 0)
    const dense = !this.latest && !this.options.where
    if (!dense || last <= this.at.seq || last <= this.gap?.to) return null
    return this.gapTo(update, last, "unexplained")
  }

  gapTo({ epoch }, to, reason) {
    const { stream, key } = this
    const from = to && this.at.seq + 1
    return { type: "gap", stream, ...(key === undefined ? {} : { key }), epoch, from, to, reason }
  }

  /** Whether a snapshot stands in for what would come next. */
  standsIn({ epoch, missed }) {
    return missed && epoch === this.at.epoch && missed.from - 1 <= this.at.seq && this.at.seq < missed.to
  }

  takeSnapshot(update) {
    const { epoch, seq, missed } = update
    if (this.renewed) this.at = { epoch, seq: Math.max(seq, this.at.seq) }
    else if (this.standsIn(update)) this.move({ epoch, seq: missed.to })
  }

  /** Takes a value that nothing announced; returns the gap that it shows, null if there is none, or false: a repeat. */
  begin(update) {
    const oneOfMany = update.key !== undefined && this.key === undefined
    const same = update.epoch === this.at.epoch
    if (same && update.seq <= this.at.seq) return oneOfMany ? null : false
    const gap = same && oneOfMany ? null : this.holeBefore(update, true)
    this.move(update)
    return gap
  }
}

export class Positions {
  places = new Map() // by name
  #counts

  constructor(counts) {
    this.#counts = counts
  }

  /** Adds a subscription, or changes the options of the one to the same stream and key, which goes on where it is. */
  add(stream, options = {}) {
    const place = new Place(stream, options)
    const before = this.places.get(place.name)
    if (before && !place.replays) {
      const { at, settled, gap } = before
      Object.assign(place, { at, settled, gap })
    }
    this.places.set(place.name, place)
    return place
  }

  /** Puts every place where it will be resumed: what had begun to come will come no more. */
  rewind() {
    for (const place of this.places.values())
      Object.assign(place, { at: place.settled ?? NOWHERE, gap: null, etag: null })
  }

  /** Puts a place where the sidecar says that it begins; returns it, or undefined if it is not wanted any more. */
  acknowledge({ stream, key, epoch, seq }) {
    const place = this.places.get(nameOf(stream, key))
    if (place) Object.assign(place, { at: { epoch: epoch ?? "", seq }, gap: null })
    return place
  }

  /** Notes that the values which follow an acknowledgement have come. */
  settle(places) {
    for (const place of places) if (!place.gap) place.settled = place.at
  }

  /**
   * Takes in what came, and returns what is to be told: itself, unless it is a repeat, behind gaps that it shows.
   * @param {object} frame an update, or any other frame
   * @param {"websocket" | "sse" | "polling"} [transport] that brought it: polling announces nothing, and only the
   *   WebSocket filters
   */
  take(frame, transport = "websocket") {
    if (isUpdate(frame)) return this.#takeUpdate(frame, transport)
    if (frame.type === "gap") {
      const place = this.places.get(nameOf(frame.stream, frame.key ?? undefined))
      if (place) {
        place.gap = frame
        if (frame.reason === "epoch") place.at = { epoch: frame.epoch, seq: 0 }
        this.#count(frame)
      }
    }
    if (frame.type === "progress") for (const reached of frame.positions) this.#reach(reached)
    return [frame]
  }

  #reach({ stream, epoch = "", seq }) {
    for (const place of this.places.values()) {
      if (place.stream !== stream) continue
      if (place.renewed || epoch !== place.at.epoch || seq > place.at.seq) place.move({ epoch, seq })
    }
  }

  #takeUpdate(update, transport) {
    const { stream, key } = update
    const names = key === undefined ? [stream] : [stream, nameOf(stream, key)]
    const places = names.map((name) => this.places.get(name)).filter((place) => place)
    if (places.length === 0) return []
    const alone = transport === "polling"
    const selected = ({ options: { where } }) => transport === "websocket" || !where || matches(where, update.data)
    if (update.snapshot && !alone) {
      for (const place of places) place.takeSnapshot(update)
      return places.some(selected) ? [update] : []
    }
    const told = []
    let news = false
    let wanted = false
    for (const place of places) {
      if (!update.snapshot && place.repeats(update)) continue
      const gap = update.snapshot ? place.begin(update) : place.holeBefore(update, alone)
      if (gap === false) continue
      news = true
      if (!update.snapshot) place.move(update)
      if (gap) told.push(this.#count(gap))
      wanted ||= selected(place)
    }
    if (wanted) told.push(update)
    if (!news) this.#counts.repeated++
    return told
  }

  #count(gap) {
    this.#counts.gaps++
    if (gap.to) this.#counts.missed += gap.to - gap.from + 1
    return gap
  }
}
