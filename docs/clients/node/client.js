// Reads a state service over gRPC, and resumes whenever the connection is lost. How to run it: README.md.
import { setTimeout as sleep } from "node:timers/promises"
import { fileURLToPath } from "node:url"
import { parseArgs } from "node:util"
import grpc from "@grpc/grpc-js"
import protoLoader from "@grpc/proto-loader"

const USAGE = `usage: node client.js HOST:PORT list
       node client.js HOST:PORT subscribe STREAM [--since EPOCH-SEQ | --last N] [--count N]`

// The messages come from the proto files themselves, when the program starts. 64-bit integers become strings, since a
// JavaScript number is exact only up to 2^53; bytes become base64.
const PROTO = fileURLToPath(new URL("../../../proto", import.meta.url))
const definition = protoLoader.loadSync("theblock/state/v1/service.proto", {
  includeDirs: [PROTO],
  longs: String,
  bytes: String,
  enums: String,
  defaults: true,
  oneofs: true,
})
const { StateStreamService } = grpc.loadPackageDefinition(definition).theblock.state.v1

const OPTIONS = {
  "grpc.max_receive_message_length": 16 << 20, // a single update may be larger than the usual 4 MiB
  "grpc.keepalive_time_ms": 30_000, // so that a connection that died without a word is noticed
  "grpc.keepalive_timeout_ms": 10_000,
  "grpc.initial_reconnect_backoff_ms": 100,
  "grpc.max_reconnect_backoff_ms": 1_000, // how long to wait is decided below
}

const FIRST_PAUSE_MS = 100
const LONGEST_PAUSE_MS = 5_000

/** Answers that will be the same however often one asks. */
const FINAL = new Set([
  grpc.status.INVALID_ARGUMENT,
  grpc.status.PERMISSION_DENIED,
  grpc.status.UNAUTHENTICATED,
  grpc.status.UNIMPLEMENTED,
])

const print = (line) => process.stdout.write(`${JSON.stringify(line)}\n`)
const short = (name) => name.replace(/^(REASON|DELIVERY)_/, "").toLowerCase()

/** Prints every stream. */
async function list(client) {
  const deadline = Date.now() + 10_000
  const response = await new Promise((resolve, reject) =>
    client.ListStreams({}, { deadline }, (error, answer) => (error ? reject(error) : resolve(answer))),
  )
  for (const { stream, type, delivery, keyed, epoch, oldest, newest } of response.streams)
    print({ stream, type, delivery: short(delivery), keyed, epoch, oldest: Number(oldest), newest: Number(newest) })
}

/** Returns a message without the members `_name` with which proto-loader marks the optional fields that are set. */
const unmarked = (message) =>
  JSON.parse(JSON.stringify(message, (name, value) => (name.startsWith("_") ? undefined : value)))

function printUpdate(update, more = {}) {
  const { stream, epoch, key, data: kind } = update // `data` is the name of the member of the oneof that is set
  const data = kind === "custom" ? JSON.parse(Buffer.from(update.custom.json, "base64")) : unmarked(update[kind])
  print({ stream, epoch, seq: Number(update.seq), key: key || undefined, time_ms: Number(update.timeMs), ...more, data })
}

/** What is known of a subscription over all its connections. */
class Subscription {
  position = null // {epoch, seq}: everything up to here has been printed, or was announced as lost
  begins = null // position that the service has announced, while what belongs to it is still to come

  constructor(stream, start, count) {
    this.stream = stream
    this.start = start // where the first connection begins: {since}, {last} or {}
    this.left = count // updates still to print
  }

  // The resume rule: ask for what follows the last update that was printed. Only while there is none yet, ask as at
  // first. The service then sends every update after the position, once and in order, and goes on live.
  request() {
    return { streams: [{ stream: this.stream, ...(this.position ? { since: this.position } : this.start) }] }
  }

  /** Takes a response in; its parts apply in this order. */
  take(response) {
    for (const { info, seq, reason } of response.started) {
      this.begins = { epoch: info.epoch, seq }
      // The position is worth nothing (REASON_TRIMMED comes with a gap): say so, and go on where the stream begins.
      if (reason === "REASON_EPOCH" || reason === "REASON_AHEAD") this.#printLost(this.begins, reason)
    }
    for (const { epoch, to, reason } of response.gaps) {
      this.begins = { epoch, seq: to }
      this.#printLost(this.begins, reason)
    }
    for (const update of response.snapshots) printUpdate(update, { snapshot: true })
    // Updates or progress come behind everything that a beginning consists of. A connection that is cut before that
    // leaves the position as it was, and the next one asks for the beginning again.
    if (this.begins && (response.updates.length || response.progress.length)) {
      this.position = this.begins
      this.begins = null
    }
    for (const update of response.updates) this.#takeUpdate(update)
    for (const { stream, epoch, seq } of response.progress) if (stream === this.stream) this.position = { epoch, seq }
  }

  #takeUpdate(update) {
    const { epoch, seq } = update
    if (epoch === this.position?.epoch && BigInt(seq) <= BigInt(this.position.seq)) return // it has come before
    if (this.left === 0) return
    printUpdate(update)
    this.position = { epoch, seq } // only now that it is printed
    this.left -= 1
  }

  #printLost({ epoch, seq }, reason) {
    print({ stream: this.stream, epoch, seq: Number(seq), reason: short(reason) })
  }
}

async function subscribe(client, subscription) {
  let pause = FIRST_PAUSE_MS
  while (subscription.left > 0) {
    subscription.begins = null
    const call = client.Subscribe(subscription.request())
    try {
      for await (const response of call) {
        subscription.take(response)
        pause = FIRST_PAUSE_MS
        if (subscription.left === 0) return
      }
      console.error("the service ended the subscription")
    } catch (error) {
      if (FINAL.has(error.code)) throw error
      console.error(`connection lost: ${error.message}`)
    } finally {
      call.on("error", () => {}) // that it is cancelled is no news
      call.cancel()
    }
    await sleep(pause * (0.5 + Math.random() / 2)) // spread, so that many clients do not come back at once
    pause = Math.min(2 * pause, LONGEST_PAUSE_MS)
  }
}

function readStart({ since, last }) {
  if (last !== undefined) return { last: Number(last) }
  if (since === undefined) return {}
  const [, epoch, seq] = /^(.+)-(\d+)$/.exec(since)
  return { since: { epoch, seq } }
}

const { values, positionals } = parseArgs({
  allowPositionals: true,
  options: { since: { type: "string" }, last: { type: "string" }, count: { type: "string" } },
})
const [address, command, stream] = positionals
if (!(command === "list" || (command === "subscribe" && stream))) {
  console.error(USAGE)
  process.exit(2)
}
const client = new StateStreamService(address, grpc.credentials.createInsecure(), OPTIONS)
try {
  if (command === "list") await list(client)
  else await subscribe(client, new Subscription(stream, readStart(values), Number(values.count ?? Infinity)))
} catch (error) {
  console.error(error.message)
  process.exitCode = 1
} finally {
  client.close()
}
