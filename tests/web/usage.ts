// What a TypeScript dashboard writes: compiled with every check on, never run.
import { BlockWebSocket, Features, Store, start } from "./client/theblock.js"
import type { BlockUpdate, Gap, Metrics, Position, Update } from "./client/theblock.js"

const ws = new BlockWebSocket("ws://localhost:5000/ws", { maxReconnectAttempts: 10, pingInterval: 30_000 })
const other = new BlockWebSocket({
  streams: ["block_updates", { stream: "account", key: "alice", where: { nonce: { gt: 3 }, address: "alice" } }],
  format: "proto",
  token: async () => "token",
  transports: ["websocket", "polling"],
})

const end: () => void = ws.on("block_update", (data, update) => {
  const height: number | string = data.height
  const whole: Update<BlockUpdate> = update
  console.log(height, whole.seq, data.hash.length)
})
ws.on("ws:gap", ({ from, to, reason }: Gap) => console.log(to - from, reason))
ws.on<{ text: string }>("note", (data, update) => console.log(data.text, update.key))
ws.on("custom", (data) => console.log(Object.keys(data)))
ws.off("custom")
end()

// @ts-expect-error a block has no price
ws.on("block_update", (data) => data.price)
// @ts-expect-error there is no such format
void new BlockWebSocket({ format: "xml" })

const position: Position | null = ws.position("account", "alice")
ws.subscribe("account", { key: "alice", ...(position ? { since: position } : {}) })
ws.unsubscribe("account", { key: "alice" })
ws.reconnectAttempts = 0
const metrics: Metrics = ws.getMetrics()
const sent: boolean = ws.send({ method: "state_stream.list", id: 1 }) && ws.send({ type: "ping", timestamp: 1 })
const streams = await ws.request<{ streams: { stream: string }[] }>("state_stream.list")

const store = new Store()
store.subscribe("metrics", (value, before) => console.log(value.height, before?.tps))
store.subscribe("mine", (value: number) => console.log(value))
store.set("usePolling", true)

const features: Record<string, boolean> = new Features({ flags: { websockets: 50 } }).getAll()
const started = await start({ config: "/config.json", streams: ["metrics"] })
started.ws.mount().unmount()
console.log(metrics.latency, sent, streams.streams.length, features, other.transport, store.get("network")?.peers)
