// Runs the client against a real sidecar: node live.js URL OPTIONS. Prints what it is told, a JSON object a line; a line
// on standard input is run with `ws` at hand, and at its end the client is unmounted and its metrics are printed.
import { createInterface } from "node:readline"
import { BlockWebSocket } from "../../bridge/web/client/theblock.js"

const print = (kind, body) => console.log(JSON.stringify({ kind, transport: ws.transport, body }))
const log = Object.fromEntries(["debug", "info", "warn", "error"].map((level) => [level, () => {}]))
const ws = new BlockWebSocket(process.argv[2], { log, ...JSON.parse(process.argv[3]) })

ws.on("*", (_data, update) => print("update", update))
for (const name of ["connected", "subscribed", "gap", "disconnected", "gave_up", "refused"])
  ws.on(`ws:${name}`, (event) => print(name, event))
ws.store.subscribe("ws", ({ transport }) => print("transport", transport))
ws.mount()

for await (const line of createInterface({ input: process.stdin })) {
  const answer = await new Function("ws", `return (async () => ${line})()`)(ws)
  print("answer", answer ?? null)
}
ws.unmount()
print("metrics", ws.getMetrics())
