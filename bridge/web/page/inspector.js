/** The stream inspector: a connection of its own, whose frames are shown as they are sent. */
import { BlockWebSocket } from "../client/theblock.js"
import { slowly } from "./painter.js"
import { clock } from "./text.js"

const HELD = 200
const HEX_BYTES = 96
const POSITION = /^([a-z0-9]{1,32})-(\d{1,19})$/
const QUIET = {}

/** How the form says where to begin: what is written in its field, as options of a subscription. */
const BEGINNINGS = {
  now: () => ({}),
  last: (text) => ({ last: Number(text) }),
  height: (text) => ({ since: { height: Number(text) } }),
  position: (text) => {
    const [, epoch, seq] = POSITION.exec(text) ?? []
    if (!epoch) throw new Error("A position is written epoch-seq, as lq3x8f2a-42.")
    return { since: { epoch, seq: Number(seq) } }
  },
}

/** Returns a WebSocket class that tells of every frame: `tell(arrow, payload)`. */
const tapped = (tell) =>
  class extends WebSocket {
    constructor(...parts) {
      super(...parts)
      this.addEventListener("message", ({ data }) => tell("←", data))
    }

    send(payload) {
      tell("→", payload)
      super.send(payload)
    }
  }

function describe(payload) {
  if (typeof payload === "string") return payload
  const bytes = new Uint8Array(payload.buffer ?? payload)
  const hex = Array.from(bytes.subarray(0, HEX_BYTES), (byte) => byte.toString(16).padStart(2, "0")).join("")
  return `${bytes.length} bytes ${hex}${bytes.length > HEX_BYTES ? "…" : ""}`
}

/** Makes the inspector work. */
export function inspect(url, streams) {
  const form = document.querySelector("#inspector form")
  const { stream, key, begin, where, format, run, pause, clear } = form
  const output = document.querySelector("#inspected")
  const list = document.querySelector("#frames")
  let client = null
  let frames = [] // lines, the newest last
  let count = 0

  const view = slowly(() => {
    list.textContent = frames.toReversed().join("\n")
    if (client) output.textContent = `${count} frames of ${stream.value} over ${client.transport}; ${standing()}`
  })

  function standing() {
    const place = client.position(stream.value, key.value || undefined)
    return place ? `it stands at ${place.epoch}-${place.seq}` : "nothing has come yet"
  }

  function add(arrow, text) {
    frames.push(`${clock(Date.now())} ${arrow} ${text}`)
    if (frames.length > HELD) frames = frames.slice(-HELD)
    count++
    if (pause.ariaPressed !== "true") view()
  }

  function begun() {
    const options = BEGINNINGS[begin.value](where.value.trim())
    return { stream: stream.value, ...(key.value ? { key: key.value } : {}), ...options }
  }

  function start() {
    const asked = begun()
    count = 0
    client = new BlockWebSocket({
      url,
      streams: [asked],
      format: format.value,
      log: QUIET,
      WebSocket: tapped((arrow, payload) => add(arrow, describe(payload))),
    })
    client.on("*", (_data, update) => {
      if (client.transport !== "websocket" || format.value === "proto") add("=", JSON.stringify(update))
    })
    client.on("ws:refused", ({ error }) => {
      stop()
      output.textContent = `It is refused: ${error.message}`
    })
    client.mount()
    toggle(true)
  }

  /** Stops; another start resumes where this one stands. */
  function stop() {
    const place = client.position(stream.value, key.value || undefined)
    client.unmount()
    client = null
    toggle(false)
    if (!place) return
    begin.value = "position"
    where.value = `${place.epoch}-${place.seq}`
    output.textContent = `Stopped at ${where.value}; Start resumes behind it.`
  }

  function toggle(running) {
    run.textContent = running ? "Stop" : "Start"
    for (const field of [stream, key, begin, where, format]) field.disabled = running
    pause.disabled = !running
    pause.ariaPressed = "false"
    view()
  }

  form.addEventListener("submit", (event) => {
    event.preventDefault()
    try {
      if (client) stop()
      else start()
    } catch (error) {
      output.textContent = error.message
    }
  })
  pause.addEventListener("click", () => {
    pause.ariaPressed = String(pause.ariaPressed !== "true")
    view()
  })
  clear.addEventListener("click", () => {
    frames = []
    view()
  })
  const options = streams.map((name) => new Option(name, name))
  document.querySelector("#streams").replaceChildren(...options)
}
