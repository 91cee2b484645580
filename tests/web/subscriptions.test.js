import assert from "node:assert/strict"
import { describe, test } from "node:test"
import { DEFAULT_STREAMS } from "../../bridge/web/client/theblock.js"
import { WELCOME, block, make, metrics, settle } from "./fakes.js"

const account = (seq, key, prev) => ({
  type: "account_update",
  stream: "account",
  epoch: "e",
  seq,
  time: 1,
  key,
  prev,
  data: { address: key, balance: `${seq}` },
})

describe("subscriptions", () => {
  test("are those of the options, asked for in one step", async () => {
    const t = make({ streams: DEFAULT_STREAMS })
    await t.connected()
    assert.deepEqual(
      t.socket.asked,
      DEFAULT_STREAMS.map((stream) => ({ stream })),
    )
    assert.deepEqual([...t.ws.subscriptions], DEFAULT_STREAMS)
    const [request, ...more] = t.socket.requests("state_stream.subscribe")
    assert.deepEqual([request.jsonrpc, request.id, more], ["2.0", 1, []])
  })

  test("a ping follows them: its pong says that what belongs to them has come", async () => {
    const t = make()
    t.ws.mount()
    await settle()
    t.socket.open().say(WELCOME)
    assert.deepEqual(
      t.socket.sent.map((message) => message.method ?? message.type),
      ["state_stream.subscribe", "ping"],
    )
    t.socket.acknowledge({ seq: 7 })
    assert.equal(t.ws.position("block_updates"), null)
    t.socket.pong()
    assert.deepEqual(t.ws.position("block_updates"), { epoch: "e", seq: 7 })
    assert.equal(t.events("subscribed")[0].seq, 7)
  })

  test("subscribe while connected asks at once", async () => {
    const t = await make().connected()
    t.ws.subscribe("energy")
    assert.deepEqual(t.socket.asked.at(-1), { stream: "energy" })
    assert.equal(t.socket.sent.at(-1).type, "ping")
    assert.ok(t.ws.subscriptions.has("energy"))
  })

  test("subscribe before that waits for the connection", async () => {
    const t = make()
    t.ws.subscribe("energy")
    await t.connected()
    assert.deepEqual(t.socket.asked, [{ stream: "block_updates" }, { stream: "energy" }])
  })

  test("options go along", async () => {
    const options = { key: "alice", where: { nonce: { gt: 1 } }, fields: ["nonce"], max_rate: 2, last: 10 }
    const t = make({ streams: [{ stream: "account", ...options }] })
    await t.connected()
    assert.deepEqual(t.socket.asked, [{ stream: "account", ...options }])
    assert.deepEqual([...t.ws.subscriptions], ["account/alice"])
  })

  test("delivery is for the client alone", async () => {
    const t = await make({ streams: [{ stream: "weather", delivery: "latest" }] }).connected()
    assert.deepEqual(t.socket.asked, [{ stream: "weather" }])
    const weather = (seq) => ({ type: "weather", stream: "weather", epoch: "e", seq, time: 1, data: {} })
    t.socket.say(weather(1)).say(weather(5))
    assert.deepEqual(t.events("gap"), [])
  })

  test("last and since are for the first time only", async () => {
    const t = await make({ streams: [{ stream: "block_updates", last: 10 }] }).connected({ seq: 5 })
    t.socket.say(block(6)).end()
    await t.clock.advance(500)
    t.socket.begin()
    assert.deepEqual(t.socket.asked, [{ stream: "block_updates", since: { epoch: "e", seq: 6 } }])
  })

  test("a position that is given is gone on from", async () => {
    const since = { epoch: "e", seq: 3 }
    const t = make({ streams: [{ stream: "block_updates", since }] })
    t.http.publish(block(3), block(4))
    await t.connected()
    assert.deepEqual(t.http.take(), []) // the current value is not wanted
    assert.deepEqual(t.socket.asked, [{ stream: "block_updates", since }])
    t.socket.say(block(4))
    assert.deepEqual(t.seqs(), [4])
  })

  test("unsubscribe asks, and what still comes is not told", async () => {
    const t = await make().connected()
    t.ws.unsubscribe("block_updates")
    assert.deepEqual(t.socket.sent.at(-1).method, "state_stream.unsubscribe")
    assert.deepEqual(t.socket.sent.at(-1).params, [{ stream: "block_updates" }])
    t.socket.say(block(1))
    assert.deepEqual(t.seqs(), [])
    assert.equal(t.ws.subscriptions.size, 0)
    assert.equal(t.ws.position("block_updates"), null)
  })

  test("unsubscribe of one key leaves the others", async () => {
    const t = await make({
      streams: [
        { stream: "account", key: "a" },
        { stream: "account", key: "b" },
      ],
    }).connected()
    t.ws.unsubscribe("account", { key: "a" })
    t.socket.say(account(1, "a", 0)).say(account(2, "b", 0))
    assert.deepEqual(t.seqs(), [2])
    assert.deepEqual([...t.ws.subscriptions], ["account/b"])
  })

  test("unsubscribe of what there is not asks nothing", async () => {
    const t = await make().connected()
    const { length } = t.socket.sent
    t.ws.unsubscribe("energy")
    assert.equal(t.socket.sent.length, length)
  })

  test("subscribing again changes the options and keeps the position", async () => {
    const t = await make().connected({ seq: 4 })
    t.socket.say(block(5))
    t.ws.subscribe("block_updates", { fields: ["height"] })
    assert.deepEqual(t.socket.asked.at(-1), {
      stream: "block_updates",
      fields: ["height"],
      since: { epoch: "e", seq: 5 },
    })
    assert.equal(t.ws.subscriptions.size, 1)
  })

  test("one that is refused is told and dropped; the others are asked for again, each by itself", async () => {
    const t = make({ streams: ["block_updates", "Bad"] })
    t.ws.mount()
    await settle()
    t.socket.open().say(WELCOME)
    const refusal = { code: -32602, message: "a stream name matches" }
    const [both] = t.socket.requests("state_stream.subscribe")
    t.socket.refuse(both, refusal)
    assert.deepEqual(t.events("refused"), [])
    const [, good, bad] = t.socket.requests("state_stream.subscribe")
    t.socket.answer(good).refuse(bad, refusal)
    assert.deepEqual([...t.ws.subscriptions], ["block_updates"])
    assert.equal(t.events("refused")[0].stream, "Bad")
    assert.equal(t.events("refused")[0].error.code, -32602)
    t.socket.say(block(1)).end()
    await t.clock.advance(500)
    t.socket.begin()
    assert.equal(t.socket.asked.length, 1)
  })

  test("while it cannot be decided where one goes on, it keeps its position and asks again", async () => {
    const t = await make().connected({ seq: 4 })
    t.socket.say(block(5)).end()
    await t.clock.advance(500)
    t.socket.open().say(WELCOME)
    const [request] = t.socket.requests("state_stream.subscribe")
    const error = { code: -32010, message: "the state service cannot be reached", data: { retry_after_ms: 1000 } }
    t.socket.refuse(request, error).pong()
    assert.deepEqual(t.ws.position("block_updates"), { epoch: "e", seq: 5 })
    await t.clock.advance(1499)
    assert.equal(t.socket.asked.length, 1)
    await t.clock.advance(1)
    assert.deepEqual(t.socket.asked[1], { stream: "block_updates", since: { epoch: "e", seq: 5 } })
    t.socket
      .answer(t.socket.requests("state_stream.subscribe")[1], { seq: 5, recovered: true, replayed: 1 })
      .pong()
      .say(block(6))
    assert.deepEqual(t.seqs(), [5, 6])
    assert.deepEqual(t.events("gap"), [])
  })

  test("one that is ended meanwhile is not asked for again", async () => {
    const t = make()
    t.ws.mount()
    await settle()
    t.socket.open().say(WELCOME)
    const [request] = t.socket.requests("state_stream.subscribe")
    t.socket.refuse(request, { code: -32029, message: "slowly" })
    t.ws.unsubscribe("block_updates")
    await t.clock.advance(5000)
    assert.equal(t.socket.asked.length, 1)
  })
})

describe("positions", () => {
  test("each stream has its own", async () => {
    const t = await make({ streams: ["block_updates", "metrics"] }).connected()
    t.socket.say(block(1)).say(metrics(8)).end()
    await t.clock.advance(500)
    t.socket.begin()
    assert.deepEqual(
      t.socket.asked.map(({ since }) => since.seq),
      [1, 8],
    )
    assert.deepEqual(t.ws.position("metrics"), { epoch: "e", seq: 8 })
  })

  test("and so has each key", async () => {
    const t = await make({
      streams: [
        { stream: "account", key: "a" },
        { stream: "account", key: "b" },
      ],
    }).connected()
    t.socket
      .say(account(1, "a", 0))
      .say(account(2, "b", 0))
      .say(account(3, "a", 1))
    assert.deepEqual(t.ws.position("account", "a"), { epoch: "e", seq: 3 })
    assert.deepEqual(t.ws.position("account", "b"), { epoch: "e", seq: 2 })
    assert.deepEqual(t.events("gap"), [])
  })

  test("an update that comes twice is told once", async () => {
    const t = await make().connected()
    t.socket.say(block(1)).say(block(2)).say(block(2)).say(block(1))
    assert.deepEqual(t.seqs(), [1, 2])
    assert.equal(t.ws.getMetrics().repeated, 2)
  })

  test("an update for the stream and for its key is told once", async () => {
    const t = await make({ streams: ["account", { stream: "account", key: "a" }] }).connected()
    t.socket.say(account(1, "a", 0)).say(account(1, "a", 0))
    assert.deepEqual(t.seqs(), [1])
  })

  test("a snapshot at the beginning is told, and moves nothing", async () => {
    const t = make()
    t.ws.mount()
    await settle()
    t.socket.open().say(WELCOME).acknowledge({ seq: 5 })
    t.socket.say(block(5, { snapshot: true })).say(block(6))
    assert.deepEqual(t.seqs(), [5, 6])
    assert.deepEqual(t.ws.position("block_updates"), { epoch: "e", seq: 6 })
  })

  test("a connection that ends before the values came begins again where it began", async () => {
    const t = await make().connected({ seq: 4 })
    t.socket.end()
    await t.clock.advance(500)
    t.socket.open().say(WELCOME).acknowledge({ recovered: false, reason: "trimmed", seq: 20 }).end()
    await t.clock.advance(1000)
    t.socket.begin()
    assert.deepEqual(t.socket.asked[0].since, { epoch: "e", seq: 4 })
  })

  test("a gap is told and counted, what stands in follows, and the next update is no hole", async () => {
    const t = await make().connected({ seq: 4 })
    const gap = { type: "gap", stream: "block_updates", epoch: "e", from: 5, to: 9, reason: "trimmed" }
    t.socket
      .say(gap)
      .say(block(9, { snapshot: true, missed: { from: 5, to: 9 } }))
      .say(block(10))
    assert.deepEqual(t.events("gap"), [gap])
    assert.deepEqual(t.seqs(), [9, 10])
    assert.equal(t.ws.getMetrics().missed, 5)
    assert.equal(t.ws.getMetrics().gaps, 1)
    assert.deepEqual(t.ws.position("block_updates"), { epoch: "e", seq: 10 })
  })

  test("a hole that nobody explains is told", async () => {
    const t = await make().connected({ seq: 4 })
    t.socket.say(block(7))
    const gap = { type: "gap", stream: "block_updates", epoch: "e", from: 5, to: 6, reason: "unexplained" }
    assert.deepEqual(t.events("gap"), [gap])
    assert.deepEqual(t.seqs(), [7])
    assert.equal(t.ws.getMetrics().missed, 2)
  })

  test("holes of streams delivered latest, and of filters, are none", async () => {
    const t = await make({
      streams: ["metrics", { stream: "block_updates", where: { tx_count: { gt: 0 } } }],
    }).connected()
    t.socket.say(metrics(1)).say(metrics(9)).say(block(1)).say(block(9))
    assert.deepEqual(t.events("gap"), [])
  })

  test("a new epoch begins anew, and smaller positions are no repeats", async () => {
    const t = await make().connected({ seq: 50 })
    t.socket.say({ type: "gap", stream: "block_updates", epoch: "f", from: 0, to: 0, reason: "epoch" })
    t.socket.say(block(2, { epoch: "f", snapshot: true })).say(block(3, { epoch: "f" }))
    assert.deepEqual(t.seqs(), [2, 3])
    assert.deepEqual(t.ws.position("block_updates"), { epoch: "f", seq: 3 })
    assert.equal(t.ws.getMetrics().missed, 0)
  })

  test("a head that goes back within an epoch is no repeat", async () => {
    const t = await make().connected({ seq: 50 })
    t.socket.say({ type: "gap", stream: "block_updates", epoch: "e", from: 0, to: 0, reason: "epoch" }).say(block(7))
    assert.deepEqual(t.seqs(), [7])
    assert.deepEqual(t.ws.position("block_updates"), { epoch: "e", seq: 7 })
  })

  test("what stands in for a gap must have come before the position moves", async () => {
    const t = await make().connected({ seq: 4 })
    t.socket.end()
    await t.clock.advance(500)
    t.socket.open().say(WELCOME).acknowledge({ seq: 4, recovered: false, reason: "trimmed" })
    t.socket.say({ type: "gap", stream: "block_updates", epoch: "e", from: 5, to: 9, reason: "trimmed" })
    t.socket.say({ type: "gap", stream: "block_updates", epoch: "f", from: 0, to: 0, reason: "epoch" }).pong().end()
    await t.clock.advance(1000)
    t.socket.begin()
    assert.deepEqual(t.socket.asked[0].since, { epoch: "e", seq: 4 })
  })

  test("a gap that nothing stands in for is told once", async () => {
    const t = await make({ streams: [{ stream: "account", key: "a" }] }).connected({ seq: 4 })
    t.socket.say({ type: "gap", stream: "account", key: "a", epoch: "e", from: 5, to: 9, reason: "trimmed" })
    t.socket.say(account(12, "a", 8))
    assert.equal(t.events("gap").length, 1)
    assert.deepEqual(t.seqs(), [12])
  })

  test("a position of another epoch: the answer says so, and what comes is taken", async () => {
    const t = await make().connected({ seq: 50 })
    t.socket.end()
    await t.clock.advance(500)
    t.socket.open().say(WELCOME).acknowledge({ epoch: "f", seq: 3, recovered: false, reason: "epoch" })
    t.socket
      .say(block(3, { epoch: "f", snapshot: true }))
      .pong()
      .say(block(4, { epoch: "f" }))
    assert.deepEqual(t.seqs(), [3, 4])
    assert.equal(t.events("subscribed").at(-1).reason, "epoch")
    assert.equal(t.ws.getMetrics().recovered, 0)
  })

  test("progress moves the position", async () => {
    const t = await make({ streams: [{ stream: "block_updates", where: { height: 1 } }] }).connected({ seq: 1 })
    t.socket.say({ type: "progress", positions: [{ stream: "block_updates", epoch: "e", seq: 40 }] }).end()
    await t.clock.advance(500)
    t.socket.begin()
    assert.deepEqual(t.socket.asked[0].since, { epoch: "e", seq: 40 })
  })

  test("progress never moves it back", async () => {
    const t = await make().connected({ seq: 1 })
    t.socket.say(block(2)).say(block(3))
    t.socket.say({ type: "progress", positions: [{ stream: "block_updates", epoch: "e", seq: 2 }] }).say(block(3))
    assert.deepEqual(t.seqs(), [2, 3])
    assert.deepEqual(t.ws.position("block_updates"), { epoch: "e", seq: 3 })
  })

  test("what is recovered and replayed is counted", async () => {
    const t = await make().connected({ seq: 4 })
    t.socket.end()
    await t.clock.advance(500)
    t.socket.begin({ replayed: 3 })
    assert.equal(t.ws.getMetrics().recovered, 1)
    assert.equal(t.ws.getMetrics().replayed, 3)
  })
})
