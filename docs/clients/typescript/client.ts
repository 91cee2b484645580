// Reads a sidecar over its WebSocket, in protobuf frames, and resumes whenever the connection is lost.
// How to run it: README.md. Everything but the last section runs in a browser as well.
import { parseArgs } from "node:util"
import { create, fromBinary, toBinary, toJson } from "@bufbuild/protobuf"
import type { MessageInitShape } from "@bufbuild/protobuf"
import { ClientFrameSchema, ServerFrameSchema } from "./gen/theblock/state/v1/frames_pb.js"
import type { ResponseFrame, ServerFrame, SubscriptionSpecSchema } from "./gen/theblock/state/v1/frames_pb.js"
import { Delivery } from "./gen/theblock/state/v1/options_pb.js"
import { UpdateSchema } from "./gen/theblock/state/v1/update_pb.js"
import type { Update } from "./gen/theblock/state/v1/update_pb.js"

const USAGE = `usage: node client.ts ws://HOST:PORT/ws list
       node client.ts ws://HOST:PORT/ws subscribe STREAM [--since EPOCH-SEQ | --last N] [--count N]`

const SUBPROTOCOL = "theblock.v1.proto"
const FIRST_PAUSE_MS = 100
const LONGEST_PAUSE_MS = 5_000
const PING_MS = 10_000
const SILENCE_MS = 25_000 // without any frame, though pings are answered: the connection is dead

const UPSTREAM_UNAVAILABLE = -32010 // error code: ask again later
const BROKEN = new Set([1002, 1003, 1007, 1009]) // close codes: one of the two sides has to be mended
const isFinal = (code: number) => BROKEN.has(code) || (code >= 4500 && code < 5000)

type Request = MessageInitShape<typeof ClientFrameSchema>["request"]
type Start = MessageInitShape<typeof SubscriptionSpecSchema>["start"]
type Position = { epoch: string; seq: bigint }

/** A refusal that stays the same however often one asks. */
class RefusedError extends Error {}

/** One connection: sends requests, and hands every frame to `take` until it ends. */
class Connection {
  #socket: WebSocket
  #heardAt = Date.now()
  retryAfterMs = 0 // when the sidecar wants to see this client again

  constructor(url: string) {
    this.#socket = new WebSocket(url, SUBPROTOCOL)
    this.#socket.binaryType = "arraybuffer"
  }

  send(request: Request) {
    this.#socket.send(toBinary(ClientFrameSchema, create(ClientFrameSchema, { id: 1n, request })))
  }

  /** Asks for a pong: it comes behind everything that answers what was asked before. */
  ping() {
    this.send({ case: "ping", value: { timestamp: 0 } })
  }

  close() {
    this.#socket.close()
  }

  /** Resolves with the close code once the connection has ended; rejects with what `take` throws. */
  run(take: (frame: ServerFrame["frame"]) => void): Promise<number> {
    const socket = this.#socket
    return new Promise((resolve, reject) => {
      const timer = setInterval(() => {
        if (Date.now() - this.#heardAt > SILENCE_MS) end(() => resolve(1006))
        else if (socket.readyState === WebSocket.OPEN) this.ping()
      }, PING_MS)
      const end = (settle: () => void) => {
        clearInterval(timer)
        socket.onmessage = socket.onclose = socket.onerror = null
        socket.close()
        settle()
      }
      socket.onerror = () => {} // a close event follows
      socket.onclose = ({ code, reason }) =>
        end(() => (isFinal(code) ? reject(new RefusedError(`closed with ${code}: ${reason}`)) : resolve(code)))
      socket.onmessage = ({ data }) => {
        this.#heardAt = Date.now()
        const { frame } = fromBinary(ServerFrameSchema, new Uint8Array(data))
        if (frame.case === "goingAway") this.retryAfterMs = frame.value.retryAfterMs
        try {
          take(frame)
        } catch (error) {
          end(() => reject(error))
        }
      }
    })
  }
}

const print = (line: object) => console.log(JSON.stringify(line))

function printUpdate(update: Update, more: object = {}) {
  const { stream, epoch, seq, key, timeMs, data: { case: kind, value } } = update
  const custom = kind === "custom" ? JSON.parse(new TextDecoder().decode(value.json)) : undefined
  const data = custom ?? (toJson(UpdateSchema, update) as Record<string, unknown>)[kind ?? ""]
  print({ stream, epoch, seq: Number(seq), key: key || undefined, time_ms: Number(timeMs), ...more, data })
}

function refusal({ outcome }: ResponseFrame): string | undefined {
  if (outcome.case !== "error") return undefined
  if (outcome.value.code !== UPSTREAM_UNAVAILABLE) throw new RefusedError(outcome.value.message)
  return outcome.value.message
}

/** Prints every stream. */
async function list(url: string) {
  const connection = new Connection(url)
  let done = false
  const code = await connection.run(({ case: kind, value }) => {
    if (kind === "welcome") connection.send({ case: "list", value: {} })
    if (kind !== "response") return
    refusal(value)
    if (value.outcome.case !== "streams") return
    for (const { stream, type, delivery, keyed, epoch, oldest, newest } of value.outcome.value.streams) {
      const name = Delivery[delivery].toLowerCase()
      print({ stream, type, delivery: name, keyed, epoch, oldest: Number(oldest), newest: Number(newest) })
    }
    done = true
    connection.close()
  })
  if (!done) throw new Error(`the connection was lost (${code})`)
}

/** What is known of a subscription over all its connections. */
class Subscription {
  readonly stream: string
  readonly #start: Start // where the first connection begins
  #position?: Position // everything up to here has been printed, or was announced as lost
  #begins?: Position // position that the sidecar has announced, while what belongs to it is still to come
  left: number // updates still to print

  constructor(stream: string, start: Start, count: number) {
    this.stream = stream
    this.#start = start
    this.left = count
  }

  /** Serves one connection, to its end; returns how long the sidecar wants to be left alone. */
  async run(connection: Connection, alive: () => void): Promise<number> {
    this.#begins = undefined
    const code = await connection.run((frame) => {
      alive()
      this.#take(frame, connection)
      if (this.left === 0) connection.close()
    })
    if (this.left > 0) console.error(`connection lost (${code})`)
    return connection.retryAfterMs
  }

  // The resume rule: ask for what follows the last update that was printed. Only while there is none yet, ask as at
  // first. The sidecar then sends every update after the position, once and in order, and goes on live.
  #request(): Request {
    const start: Start = this.#position ? { case: "since", value: this.#position } : this.#start
    return { case: "subscribe", value: { subscriptions: [{ stream: this.stream, start }] } }
  }

  #take(frame: ServerFrame["frame"], connection: Connection) {
    switch (frame.case) {
      case "welcome":
        connection.send(this.#request())
        return connection.ping()
      case "response":
        return this.#takeResponse(frame.value, connection)
      case "pong":
        return this.#settle()
      case "gap": {
        const { epoch, to, reason } = frame.value
        if (reason !== "epoch") this.#begins = { epoch, seq: to }
        return this.#printLost({ epoch, seq: to }, reason)
      }
      case "snapshot":
        if (frame.value.update) printUpdate(frame.value.update, { snapshot: true })
        return
      case "update":
        return this.#takeUpdate(frame.value)
      case "progress": // the stream went on without anything for this client
        for (const { stream, epoch, seq } of frame.value.positions)
          if (stream === this.stream) this.#position = { epoch, seq }
    }
  }

  #takeResponse(response: ResponseFrame, connection: Connection) {
    const problem = refusal(response)
    if (problem) {
      // The sidecar cannot tell now whether the position can be resumed from: keep it, and ask again.
      console.error(problem)
      connection.retryAfterMs = 500
      connection.close()
    } else if (response.outcome.case === "subscribed") {
      const [{ epoch, seq, reason }] = response.outcome.value.subscriptions
      this.#begins = { epoch, seq }
      // The position is worth nothing (with `trimmed` a gap follows): say so, and go on where the stream begins.
      if (reason === "epoch" || reason === "ahead") this.#printLost(this.#begins, reason)
    }
  }

  /** Takes an announced position over, once everything that belongs to it has come: an update or a pong tells.
   *  A connection that is cut before that leaves the position as it was; the next one asks for the beginning again. */
  #settle() {
    if (this.#begins) this.#position = this.#begins
    this.#begins = undefined
  }

  #takeUpdate(update: Update) {
    this.#settle()
    const { epoch, seq } = update
    if (epoch === this.#position?.epoch && seq <= this.#position.seq) return // it has come before
    if (this.left === 0) return
    printUpdate(update)
    this.#position = { epoch, seq } // only now that it is printed
    this.left -= 1
  }

  #printLost({ epoch, seq }: Position, reason: string) {
    print({ stream: this.stream, epoch, seq: Number(seq), reason })
  }
}

async function subscribe(url: string, subscription: Subscription) {
  let pause = FIRST_PAUSE_MS
  while (subscription.left > 0) {
    const wait = await subscription.run(new Connection(url), () => (pause = FIRST_PAUSE_MS))
    if (subscription.left === 0) return
    const spread = 0.5 + Math.random() / 2 // so that many clients do not come back at once
    await new Promise((resolve) => setTimeout(resolve, wait + pause * spread))
    pause = Math.min(2 * pause, LONGEST_PAUSE_MS)
  }
}

// The command line

function readStart({ since, last }: { since?: string; last?: string }): Start {
  if (last !== undefined) return { case: "last", value: Number(last) }
  const found = /^(.+)-(\d+)$/.exec(since ?? "")
  return found ? { case: "since", value: { epoch: found[1], seq: BigInt(found[2]) } } : undefined
}

const { values, positionals } = parseArgs({
  allowPositionals: true,
  options: { since: { type: "string" }, last: { type: "string" }, count: { type: "string" } },
})
const [url, command, stream] = positionals
if (!(command === "list" || (command === "subscribe" && stream))) {
  console.error(USAGE)
  process.exit(2)
}
try {
  if (command === "list") await list(url)
  else await subscribe(url, new Subscription(stream, readStart(values), Number(values.count ?? Infinity)))
} catch (error) {
  console.error(error instanceof Error ? error.message : error)
  process.exitCode = 1
}
