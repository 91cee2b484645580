import assert from "node:assert/strict"
import { describe, test } from "node:test"
import { WELCOME, block, make, metrics, settle } from "./fakes.js"

describe("messages", () => {
  test("go to the handlers of their type, with data and the whole update", async () => {
    const t = await make().connected()
    const got = []
    t.ws.on("block_update", (...words) => got.push(words))
    t.socket.say(block(1))
    assert.deepEqual(got, [[block(1).data, block(1)]])
    assert.deepEqual(t.told, [block(1)])
  })

  test("of a custom stream go to a handler for its type", async () => {
    const t = make({ streams: ["test_stream"] })
    await t.connected()
    const got = []
    t.ws.on("test_type", (data) => got.push(data))
    t.socket.say({ type: "test_type", stream: "test_stream", epoch: "e", seq: 1, time: 1, data: { a: 1 } })
    assert.deepEqual(got, [{ a: 1 }])
  })

  test("reach handlers in the order in which they were added, until they are taken back", async () => {
    const t = await make().connected()
    const got = []
    const first = () => got.push("first")
    t.ws.on("block_update", first)
    const end = t.ws.on("block_update", () => got.push("second"))
    t.socket.say(block(1))
    t.ws.off("block_update", first)
    t.socket.say(block(2))
    end()
    t.socket.say(block(3))
    assert.deepEqual(got, ["first", "second", "second"])
    assert.equal(t.ws.messageHandlers.get("block_update").size, 1) // that of the store
  })

  test("off without a handler lets all of a type go", async () => {
    const { ws } = make()
    assert.ok(ws.messageHandlers instanceof Map)
    assert.ok(ws.messageHandlers.has("metrics_update"))
    ws.off("metrics_update")
    assert.equal(ws.messageHandlers.has("metrics_update"), false)
    ws.off("nothing", () => {})
  })

  test("a handler that throws stops nobody", async () => {
    const t = await make().connected()
    const got = []
    t.ws.on("block_update", () => {
      throw new Error("mine")
    })
    t.ws.on("block_update", (data) => got.push(data.height))
    t.socket.say(block(1)).say(block(2))
    assert.deepEqual(got, [101, 102])
    assert.deepEqual(t.seqs(), [1, 2])
    assert.equal(t.ws.store.get("metrics").height, 102)
    assert.equal(t.ws.getMetrics().errors, 2)
    assert.equal(t.lines.filter(([level]) => level === "error").length, 2)
    assert.equal(t.lines.at(-1)[1], "[WS] A handler of block_update threw:")
  })

  test("a handler of a notice that throws does not keep the client from coming back", async () => {
    const t = await make().connected()
    t.ws.on("ws:disconnected", () => {
      throw new Error("mine")
    })
    t.socket.end()
    await t.clock.advance(500)
    assert.equal(t.sockets.length, 2)
  })

  test("a handler may unmount", async () => {
    const t = await make().connected()
    t.ws.on("ws:disconnected", () => t.ws.unmount())
    t.socket.end()
    await t.clock.advance(60_000)
    assert.equal(t.sockets.length, 1)
    assert.equal(t.clock.pending, 0)
  })

  test("of a kind that is not known do no harm", async () => {
    const t = await make().connected()
    t.socket.say({ type: "surprise" }).say({ jsonrpc: "2.0", id: 99, result: {} }).say(block(1))
    assert.deepEqual(t.seqs(), [1])
    assert.equal(t.ws.isConnected(), true)
  })

  test("upstream and going_away are told as notices", async () => {
    const t = await make().connected()
    t.socket.say({ type: "upstream", state: "down", since: 5 })
    assert.deepEqual(t.events("upstream"), [{ type: "upstream", state: "down", since: 5 }])
    t.socket.say({ type: "going_away", retry_after_ms: 7000, reason: "restart" })
    assert.equal(t.events("going_away")[0].retry_after_ms, 7000)
  })

  for (const [what, frame] of [
    ["not JSON", "{"],
    ["no object", "7"],
    ["binary", new ArrayBuffer(3)],
  ])
    test(`a frame that is ${what} ends the connection, and the next one resumes`, async () => {
      const t = await make().connected({ seq: 1 })
      t.socket.say(frame)
      assert.equal(t.ws.isConnected(), false)
      assert.equal(t.ws.getMetrics().errors, 1)
      assert.match(t.events("disconnected")[0].sentence, /^a frame cannot be read/)
      await t.clock.advance(500)
      t.socket.begin()
      assert.deepEqual(t.socket.asked[0].since, { epoch: "e", seq: 1 })
    })

  test("a sidecar that does not begin with a welcome is left", async () => {
    const t = make()
    t.ws.mount()
    await settle()
    t.socket.open().say(block(1))
    assert.equal(t.socket.closed, 1000)
    assert.deepEqual(t.seqs(), [])
  })
})

describe("what is sent", () => {
  test("send says whether there was a connection", async () => {
    const t = make()
    assert.equal(t.ws.send({ type: "ping", timestamp: 1 }), false)
    await t.connected()
    assert.equal(t.ws.send({ type: "ping", timestamp: 1 }), true)
    assert.deepEqual(t.socket.sent.at(-1), { type: "ping", timestamp: 1 })
  })

  test("send makes a JSON-RPC request of a method", async () => {
    const t = await make().connected()
    t.ws.send({ method: "state_stream.list", params: [], id: "mine" })
    assert.deepEqual(t.socket.sent.at(-1), { jsonrpc: "2.0", method: "state_stream.list", params: [], id: "mine" })
  })

  test("request resolves with the result", async () => {
    const t = await make().connected()
    const answer = t.ws.request("state_stream.list")
    const { id } = t.socket.requests("state_stream.list")[0]
    t.socket.say({ jsonrpc: "2.0", id, result: { streams: [] } })
    assert.deepEqual(await answer, { streams: [] })
  })

  test("request rejects with what the sidecar says", async () => {
    const t = await make().connected()
    const answer = t.ws.request("nonsense")
    const { id } = t.socket.requests("nonsense")[0]
    t.socket.say({
      jsonrpc: "2.0",
      id,
      error: { code: -32601, message: "there is no such method", data: { methods: [] } },
    })
    await assert.rejects(answer, { code: -32601, message: "there is no such method", data: { methods: [] } })
  })

  test("request rejects without a connection, with one that is lost, and after ten seconds", async () => {
    const t = make()
    await assert.rejects(t.ws.request("session.stats"), /no connection/)
    await t.connected()
    const late = assert.rejects(t.ws.request("session.stats"), /is not answered/)
    await t.clock.advance(10_000)
    await late
    const lost = assert.rejects(t.ws.request("session.stats"), /was lost/)
    t.socket.end()
    await lost
  })
})

describe("metrics", () => {
  test("begin with nothing", () => {
    const { ws } = make()
    const { latency, ...counts } = ws.getMetrics()
    assert.equal(latency, null)
    assert.deepEqual(new Set(Object.values(counts)), new Set([0]))
    for (const name of ["messagesReceived", "messagesSent", "reconnects", "recovered", "missed"])
      assert.ok(name in counts)
  })

  test("count what is received and sent", async () => {
    const t = await make().connected()
    const before = t.ws.getMetrics()
    assert.equal(before.messagesSent, 2) // subscribe, ping
    assert.equal(before.messagesReceived, 3) // welcome, answer, pong
    t.socket.say(block(1))
    t.ws.send({ type: "ping", timestamp: 1 })
    assert.equal(t.ws.getMetrics().messagesReceived, 4)
    assert.equal(t.ws.getMetrics().messagesSent, 3)
    assert.equal(t.ws.getMetrics().updates, 1)
    assert.equal(before.updates, 0) // a copy
  })

  test("are in the store, as they are when they are looked at", async () => {
    const t = await make().connected()
    t.socket.say(block(1))
    const state = t.ws.store.get("ws")
    assert.equal(state.connected, true)
    assert.equal(state.transport, "websocket")
    assert.equal(state.metrics.updates, 1)
    assert.equal(state.metrics.messagesReceived, 4)
  })

  test("count reconnects, not the first connection", async () => {
    const t = await make().connected()
    assert.equal(t.ws.getMetrics().reconnects, 0)
    t.socket.end()
    await t.clock.advance(500)
    t.socket.begin()
    assert.equal(t.ws.getMetrics().reconnects, 1)
  })

  test("latency is that of the last ping", async () => {
    const t = await make().connected()
    await t.clock.advance(30_000)
    await t.clock.advance(42)
    t.socket.pong()
    assert.equal(t.ws.getMetrics().latency, 42)
  })
})

describe("keepalive", () => {
  test("a ping every thirty seconds", async () => {
    const t = await make().connected()
    const pings = () => t.socket.sent.filter((message) => message.type === "ping")
    for (let count = 1; count < 5; count++) {
      assert.equal(pings().length, count)
      await t.clock.advance(30_000)
      t.socket.pong()
    }
    assert.equal(pings().at(-1).timestamp, t.clock.now())
  })

  test("pingInterval says how often", async () => {
    const t = await make({ pingInterval: 1000 }).connected()
    await t.clock.advance(999)
    assert.equal(t.socket.sent.filter((message) => message.type === "ping").length, 1)
    await t.clock.advance(1)
    assert.equal(t.socket.sent.filter((message) => message.type === "ping").length, 2)
  })

  test("silence of ten seconds after a ping ends the connection", async () => {
    const t = await make().connected()
    await t.clock.advance(39_999)
    assert.equal(t.ws.isConnected(), true)
    await t.clock.advance(1)
    assert.equal(t.ws.isConnected(), false)
    assert.equal(t.events("disconnected")[0].sentence, "the sidecar has gone silent")
  })

  test("anything that comes is life", async () => {
    const t = await make().connected()
    await t.clock.advance(35_000)
    t.socket.say(block(1))
    await t.clock.advance(10_000)
    assert.equal(t.ws.isConnected(), true)
  })

  test("a sidecar that says welcome and then nothing is left", async () => {
    const t = make()
    t.ws.mount()
    await settle()
    t.socket.open().say(WELCOME)
    await t.clock.advance(10_000)
    assert.equal(t.ws.isConnected(), false)
  })
})

describe("the store", () => {
  const data = (type, stream, seq, value) => ({ type, stream, epoch: "e", seq, time: 1, data: value })

  test("a block sets height and timestamp beside the metrics", async () => {
    const t = await make({ streams: ["block_updates", "metrics"] }).connected()
    t.socket.say(metrics(1, { data: { tps: 3, fees: 9 } })).say(block(1))
    assert.deepEqual(t.ws.store.get("metrics"), {
      tps: 3,
      fees: 9,
      height: 101,
      finalized_height: undefined,
      timestamp: 1,
    })
  })

  test("metrics are merged: what is left out stays, null is not known", async () => {
    const t = await make({ streams: ["metrics"] }).connected()
    t.socket.say(metrics(1, { data: { tps: 3, fees: 9 } })).say(metrics(2, { data: { tps: null } }))
    assert.deepEqual(t.ws.store.get("metrics"), { tps: null, fees: 9 })
  })

  test("older metrics do not take the height back; a block may", async () => {
    const t = await make({ streams: ["block_updates", "metrics"] }).connected()
    t.socket.say(block(5)).say(metrics(1, { data: { blockHeight: 104 } }))
    assert.equal(t.ws.store.get("metrics").height, 105)
    t.socket.say(metrics(2, { data: { blockHeight: 106 } }))
    assert.equal(t.ws.store.get("metrics").height, 106)
    t.socket.say(block(6, { data: { height: 103 } }))
    assert.equal(t.ws.store.get("metrics").height, 103)
  })

  test("the network is replaced, trading is merged, energy is there", async () => {
    const t = await make({ streams: ["network", "trading", "energy"] }).connected()
    t.socket.say(data("network_update", "network", 1, { peers: 1, activeConnections: 2 }))
    t.socket.say(data("network_update", "network", 2, { peers: 3 }))
    t.socket.say(data("trading_update", "trading", 1, { lastPrice: 1, volume24h: 2 }))
    t.socket.say(data("trading_update", "trading", 2, { lastPrice: 4 }))
    t.socket.say(data("energy_update", "energy", 1, { price: 5 }))
    assert.deepEqual(t.ws.store.get("network"), { peers: 3 })
    assert.deepEqual(t.ws.store.get("trading"), { lastPrice: 4, volume24h: 2 })
    assert.deepEqual(t.ws.store.get("energy"), { price: 5 })
  })
})
