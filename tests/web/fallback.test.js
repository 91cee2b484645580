import assert from "node:assert/strict"
import { describe, test } from "node:test"
import { FetchEventSource } from "../../bridge/web/client/events.js"
import { eventId } from "../../bridge/web/client/fallback.js"
import { FakeClock, WELCOME, block, make, metrics, settle } from "./fakes.js"

const account = (seq, key, prev) => ({
  type: "account_update",
  stream: "account",
  epoch: "e",
  seq,
  time: 1,
  key,
  prev,
  data: { address: key, nonce: seq },
})

/** Makes a client whose WebSocket does not work, in its fallback. */
async function falling(options, publish = () => {}) {
  const t = make(options)
  publish(t.http)
  t.ws.mount()
  t.socket?.end(4503)
  await settle()
  return t
}

describe("the first values", () => {
  test("are there before any socket is open", async () => {
    const t = make({ streams: ["block_updates", "metrics"] })
    t.http.publish(block(1), block(2), metrics(7))
    t.ws.mount()
    await settle()
    assert.equal(t.socket.readyState, 0)
    assert.deepEqual(
      t.told.map(({ stream, seq, snapshot }) => [stream, seq, snapshot]),
      [
        ["block_updates", 2, true],
        ["metrics", 7, true],
      ],
    )
    assert.equal(t.ws.store.get("metrics").height, 102)
    assert.deepEqual(t.http.take(), ["/state/block_updates", "/state/metrics"])
  })

  test("are gone on from: nothing is shown twice", async () => {
    const t = make()
    t.http.publish(block(1), block(2))
    await t.connected()
    assert.deepEqual(t.socket.asked, [{ stream: "block_updates", since: { epoch: "e", seq: 2 } }])
    t.socket.say(block(3))
    assert.deepEqual(t.seqs(), [2, 3])
  })

  test("come first: a faster welcome waits for them", async () => {
    const t = make()
    t.http.publish(block(2))
    t.ws.mount()
    t.socket.open().say(WELCOME)
    assert.deepEqual(t.socket.asked, [])
    await settle()
    assert.deepEqual(t.socket.asked, [{ stream: "block_updates", since: { epoch: "e", seq: 2 } }])
  })

  test("are waited for two seconds at most", async () => {
    const t = make()
    t.http.hang = true
    t.ws.mount()
    t.socket.open().say(WELCOME)
    await t.clock.advance(1999)
    assert.deepEqual(t.socket.asked, [])
    await t.clock.advance(1)
    assert.deepEqual(t.socket.asked, [{ stream: "block_updates" }])
  })

  test("of one key are asked for by key, those of a stream with keys come together", async () => {
    const t = make({ streams: [{ stream: "account", key: "history" }] })
    t.http.publish(account(1, "history", 0), account(2, "b", 0))
    t.ws.mount()
    await settle()
    assert.deepEqual(t.http.take(), ["/state/account?key=history"])
    assert.deepEqual(t.seqs(), [1])
    const whole = make({ streams: ["account", { stream: "account", key: "b" }] })
    whole.http.publish(account(1, "a", 0), account(2, "b", 0), account(3, "a", 1))
    await whole.connected()
    assert.deepEqual(whole.http.take(), ["/state/account"])
    assert.deepEqual(new Set(whole.seqs()), new Set([2, 3]))
    assert.deepEqual(whole.socket.asked[0], { stream: "account", since: { epoch: "e", seq: 3 } })
    assert.deepEqual(whole.events("gap"), [])
  })
})

describe("polling", () => {
  test("begins when there was no WebSocket for three seconds", async () => {
    const t = await make({ transports: ["websocket", "polling"] }).connected({ seq: 1 })
    t.http.publish(block(1))
    t.socket.end()
    await t.clock.advance(2999)
    assert.equal(t.ws.transport, "none")
    assert.equal(t.ws.store.get("usePolling"), false)
    t.http.take()
    t.http.publish(block(2))
    await t.clock.advance(1)
    assert.equal(t.ws.transport, "polling")
    assert.equal(t.ws.store.get("usePolling"), true)
    assert.equal(t.http.asked[0].headers["If-None-Match"], '"e-1"')
    assert.deepEqual(t.http.take(), ["/state/block_updates", "/state/block_updates/history?since=e-1"])
    assert.deepEqual(t.seqs(), [2])
  })

  test("begins no later for a WebSocket that is tried again and again", async () => {
    const t = make({ transports: ["websocket", "polling"] })
    t.ws.mount()
    for (const wait of [500, 1000, 1499]) {
      t.socket.end()
      await t.clock.advance(wait)
    }
    assert.equal(t.ws.transport, "none")
    await t.clock.advance(1)
    assert.equal(t.ws.transport, "polling")
  })

  test("goes on behind a position that is given", async () => {
    const since = { epoch: "e", seq: 2 }
    const serve = (http) => http.publish(block(1), block(2), block(3), block(4))
    const t = await falling({ streams: [{ stream: "block_updates", since }], transports: ["polling"] }, serve)
    assert.deepEqual(t.seqs(), [3, 4])
  })

  test("of a key whose position is ahead of its value asks once more, and then knows its entity tag", async () => {
    const t = await make({
      streams: [{ stream: "account", key: "a" }],
      transports: ["websocket", "polling"],
    }).connected()
    t.socket.say(account(1, "a", 0))
    t.socket.say({ type: "progress", positions: [{ stream: "account", epoch: "e", seq: 40 }] }).end(4503)
    t.http.publish(account(1, "a", 0))
    await settle()
    t.http.take()
    await t.clock.advance(2000)
    assert.deepEqual(t.http.take(), ["/state/account?key=a"])
    assert.deepEqual(t.seqs(), [1])
  })

  test("every two seconds, with the position as entity tag", async () => {
    const t = await falling({}, (http) => http.publish(block(1)))
    t.http.asked = []
    for (let round = 0; round < 3; round++) await t.clock.advance(2000)
    assert.deepEqual(
      t.http.asked.map(({ path }) => path),
      Array(3).fill("/state/block_updates"),
    )
    assert.equal(t.http.asked[0].headers["If-None-Match"], '"e-1"')
    assert.deepEqual(t.seqs(), [1])
  })

  test("pollInterval says how often", async () => {
    const t = await falling({ pollInterval: 500 })
    t.http.take()
    await t.clock.advance(1500)
    assert.equal(t.http.take().length, 3)
  })

  test("reads every update of an `every` stream from history, page by page", async () => {
    const t = await falling({}, (http) => http.publish(block(1)))
    t.http.limit = 3
    t.http.publish(...[2, 3, 4, 5, 6, 7, 8].map((seq) => block(seq)))
    t.http.take()
    await t.clock.advance(2000)
    assert.deepEqual(t.seqs(), [1, 2, 3, 4, 5, 6, 7, 8])
    const pages = ["e-1", "e-4", "e-7"].map((since) => `/state/block_updates/history?since=${since}`)
    assert.deepEqual(t.http.take(), ["/state/block_updates", ...pages])
    assert.deepEqual(t.events("gap"), [])
  })

  test("takes the newest of a `latest` stream", async () => {
    const t = await falling({ streams: ["metrics"] }, (http) => http.publish(metrics(1)))
    t.http.publish(metrics(2), metrics(3))
    t.http.take()
    await t.clock.advance(2000)
    assert.deepEqual(t.seqs(), [1, 3])
    assert.deepEqual(t.http.take(), ["/state/metrics"])
    assert.deepEqual(t.events("gap"), [])
  })

  test("a sidecar that lags behind does not take a value back", async () => {
    const t = await falling({ streams: ["metrics"] }, (http) => http.publish(metrics(5)))
    t.http.streams.set("metrics", [metrics(4)])
    await t.clock.advance(2000)
    assert.deepEqual(t.seqs(), [5])
    assert.deepEqual(t.ws.position("metrics"), { epoch: "e", seq: 5 })
  })

  test("of a stream with keys reads what is new for all", async () => {
    const t = await falling({ streams: ["account"] }, (http) => http.publish(account(1, "a", 0), account(2, "b", 0)))
    t.http.publish(account(3, "b", 2), account(4, "a", 1))
    await t.clock.advance(2000)
    assert.deepEqual(t.seqs(), [1, 2, 3, 4])
  })

  test("of one key reads the history of that key", async () => {
    const t = await falling({ streams: [{ stream: "account", key: "a" }] }, (http) => http.publish(account(1, "a", 0)))
    t.http.publish(account(2, "b", 0), account(3, "a", 1), account(4, "a", 3))
    t.http.take()
    await t.clock.advance(2000)
    assert.deepEqual(t.seqs(), [1, 3, 4])
    assert.deepEqual(t.http.take(), ["/state/account?key=a", "/state/account/history?key=a&since=e-1"])
    assert.deepEqual(t.events("gap"), [])
  })

  test("tells what history no longer has", async () => {
    const t = await falling({}, (http) => http.publish(block(1)))
    t.http.publish(...[2, 3, 4, 5].map((seq) => block(seq)))
    t.http.trimmed = 3
    await t.clock.advance(2000)
    assert.deepEqual(t.seqs(), [1, 4, 5])
    assert.deepEqual(t.events("gap"), [
      { type: "gap", stream: "block_updates", epoch: "e", from: 2, to: 3, reason: "trimmed" },
    ])
    assert.equal(t.ws.getMetrics().missed, 2)
  })

  test("tells a new epoch, and goes on in it", async () => {
    const t = await falling({}, (http) => http.publish(block(40)))
    t.http.publish(block(1, { epoch: "f" }))
    await t.clock.advance(2000)
    t.http.publish(block(2, { epoch: "f" }))
    await t.clock.advance(2000)
    assert.deepEqual(
      t.told.map(({ epoch, seq }) => `${epoch}${seq}`),
      ["e40", "f1", "f2"],
    )
    assert.deepEqual(
      t.events("gap").map(({ reason, epoch }) => [reason, epoch]),
      [["epoch", "f"]],
    )
  })

  test("filters by itself", async () => {
    const where = { height: { gte: 103 } }
    const t = await falling({ streams: [{ stream: "block_updates", where }] }, (http) => http.publish(block(1)))
    t.http.publish(...[2, 3, 4].map((seq) => block(seq)))
    await t.clock.advance(2000)
    assert.deepEqual(t.seqs(), [3, 4])
    assert.deepEqual(t.ws.position("block_updates"), { epoch: "e", seq: 4 })
  })

  test("an outage voids nothing", async () => {
    const t = await falling({}, (http) => http.publish(block(1)))
    t.http.down = true
    await t.clock.advance(10_000)
    t.http.down = false
    t.http.publish(block(2))
    await t.clock.advance(2000)
    assert.deepEqual(t.seqs(), [1, 2])
  })

  test("comes back when the sidecar wants it to", async () => {
    const t = await falling({ transports: ["polling"] })
    Object.assign(t.http, { status: 503, more: { "Retry-After": "30" } })
    await t.clock.advance(2000)
    t.http.take()
    await t.clock.advance(29_000)
    assert.deepEqual(t.http.take(), [])
    await t.clock.advance(1000)
    assert.equal(t.http.take().length, 1)
  })

  test("follows subscribe and unsubscribe", async () => {
    const t = await falling({ transports: ["polling"] }, (http) => http.publish(block(1), metrics(1)))
    t.http.take()
    t.ws.subscribe("metrics")
    t.ws.unsubscribe("block_updates")
    await settle()
    assert.deepEqual(t.http.take().at(-1), "/state/metrics")
    assert.equal(t.told.at(-1).stream, "metrics")
  })

  test("leaves nothing behind", async () => {
    const t = await falling({ transports: ["polling"] })
    await t.clock.advance(100_000)
    t.ws.unmount()
    assert.equal(t.clock.pending, 0)
    assert.equal(t.ws.store.get("usePolling"), false)
    t.http.take()
    await t.clock.advance(10_000)
    assert.deepEqual(t.http.take(), [])
  })
})

describe("back to the WebSocket", () => {
  test("behind what was polled: nothing lost, nothing twice", async () => {
    const t = await make({ transports: ["websocket", "polling"] }).connected({ seq: 1 })
    t.socket.say(block(2)).end()
    t.http.publish(block(1), block(2), block(3))
    await t.clock.advance(500)
    t.socket.end()
    await t.clock.advance(3000)
    assert.deepEqual(t.seqs(), [2, 3])
    t.http.publish(block(4))
    await t.clock.advance(2000)
    t.socket.open().say(WELCOME)
    assert.equal(t.ws.store.get("usePolling"), false)
    assert.deepEqual(t.socket.asked, [{ stream: "block_updates", since: { epoch: "e", seq: 4 } }])
    t.socket.acknowledge().pong().say(block(5))
    t.http.publish(block(5))
    await t.clock.advance(10_000)
    assert.deepEqual(t.seqs(), [2, 3, 4, 5])
    assert.equal(t.ws.getMetrics().repeated, 0)
    assert.deepEqual(t.events("gap"), [])
  })

  test("an answer that is on its way when the WebSocket is back is dropped", async () => {
    const t = await make({ transports: ["websocket", "polling"] }).connected({ seq: 1 })
    t.socket.end()
    t.http.publish(block(1), block(2))
    await t.clock.advance(500)
    let open
    t.http.gate = new Promise((resolve) => (open = resolve))
    t.socket.open()
    await t.clock.advance(2500)
    assert.equal(t.ws.transport, "polling")
    t.socket.say(WELCOME)
    open()
    await settle()
    assert.deepEqual(t.seqs(), [])
    assert.deepEqual(t.socket.asked[0].since, { epoch: "e", seq: 1 })
    t.socket.acknowledge().pong().say(block(2))
    assert.deepEqual(t.seqs(), [2])
    assert.equal(t.ws.getMetrics().repeated, 0)
  })

  for (const [what, streams, updates] of [
    ["a current value", ["metrics"], [metrics(1), metrics(2)]],
    ["a page of history", ["block_updates"], [block(1), block(2)]],
  ])
    test(`and so is ${what} in the middle of a round`, async () => {
      const t = await make({ streams, transports: ["websocket", "polling"] }).connected({ seq: 1 })
      t.socket.end()
      t.http.publish(...updates)
      await t.clock.advance(500)
      t.socket.open()
      let open
      const gate = new Promise((resolve) => (open = resolve))
      t.http.before = (path) => {
        if (streams[0] === "metrics" || path.includes("history")) t.http.gate = gate
      }
      await t.clock.advance(2500)
      assert.notEqual(t.http.gate, undefined)
      t.socket.say(WELCOME)
      open()
      await settle()
      assert.deepEqual(t.seqs(), [])
    })

  test("a short break is none: nothing is polled", async () => {
    const t = await make().connected()
    t.http.take()
    t.socket.end()
    await t.clock.advance(500)
    t.socket.begin()
    await t.clock.advance(10_000)
    assert.deepEqual(t.http.take(), [])
  })

  test("a handshake that hangs does not keep the fallback waiting", async () => {
    const t = make({ transports: ["websocket", "polling"] })
    t.http.publish(block(1))
    t.ws.mount()
    await t.clock.advance(3000)
    assert.equal(t.ws.transport, "polling")
    assert.equal(t.sockets.length, 1)
  })

  test("without a WebSocket in the browser it polls at once", async () => {
    const t = make({ WebSocket: null, transports: ["websocket", "polling"] })
    t.ws.mount()
    await settle()
    assert.equal(t.ws.transport, "polling")
  })

  test("without any transport nothing happens", async () => {
    const t = make({ transports: [] })
    t.ws.mount()
    await t.clock.advance(60_000)
    assert.equal(t.ws.transport, "none")
    assert.equal(t.sockets.length, 0)
  })
})

describe("Server-Sent Events", () => {
  const serve = (http) => {
    http.sse = true
    http.publish(block(1), metrics(7))
  }
  const streams = ["block_updates", "metrics"]

  test("come before polling, behind the positions that there are", async () => {
    const t = await falling({ streams }, serve)
    assert.equal(t.http.take().at(-1), "/events?stream=block_updates&stream=metrics")
    assert.equal(t.http.events.lastEventId, "e;block_updates=1;metrics=7")
    assert.equal(t.ws.transport, "none")
    t.http.events.subscribed(
      { stream: "block_updates", seq: 1, recovered: true },
      { stream: "metrics", seq: 7, recovered: true },
    )
    t.http.events.update(block(2))
    t.http.events.update(metrics(9))
    await settle()
    assert.equal(t.ws.transport, "sse")
    assert.equal(t.ws.store.get("usePolling"), false)
    assert.deepEqual(t.seqs(), [1, 7, 2, 9])
    assert.deepEqual(t.events("gap"), [])
    assert.equal(t.ws.getMetrics().recovered, 2)
  })

  test("without a position begin with a snapshot, which counts once all of them have come", async () => {
    const t = await falling({ streams }, (http) => (http.sse = true))
    assert.equal(t.http.events.lastEventId, undefined)
    t.http.events.subscribed({ stream: "block_updates", seq: 5 }, { stream: "metrics", seq: 3 })
    t.http.events.update(block(5, { snapshot: true }), "")
    await settle()
    assert.equal(t.ws.position("block_updates"), null)
    t.http.events.update(metrics(3, { snapshot: true }))
    await settle()
    assert.deepEqual(t.ws.position("block_updates"), { epoch: "e", seq: 5 })
    t.http.events.update(block(6))
    await settle()
    assert.deepEqual(t.seqs(), [5, 3, 6])
    assert.deepEqual(t.events("gap"), [])
  })

  test("tell what is missed, and a new epoch", async () => {
    const t = await falling({}, serve)
    t.http.events.subscribed({ stream: "block_updates", seq: 1, recovered: false, reason: "trimmed" })
    t.http.events.update(
      { type: "gap", stream: "block_updates", epoch: "e", from: 2, to: 4, reason: "trimmed" },
      "event: gap\n",
    )
    t.http.events.update(block(4, { snapshot: true, missed: { from: 2, to: 4 } }))
    t.http.events.update(block(5))
    t.http.events.update(
      { type: "gap", stream: "block_updates", epoch: "f", from: 0, to: 0, reason: "epoch" },
      "event: gap\n",
    )
    t.http.events.update(block(1, { epoch: "f", snapshot: true }))
    t.http.events.update(block(2, { epoch: "f" }))
    await settle()
    assert.deepEqual(
      t.told.map(({ epoch, seq }) => `${epoch}${seq}`),
      ["e1", "e4", "e5", "f1", "f2"],
    )
    assert.deepEqual(
      t.events("gap").map(({ reason, from, to }) => [reason, from, to]),
      [
        ["trimmed", 2, 4],
        ["epoch", 0, 0],
      ],
    )
    assert.equal(t.ws.getMetrics().missed, 3)
  })

  test("what comes again is not told again", async () => {
    const t = await falling({}, serve)
    t.http.events.subscribed({ stream: "block_updates", seq: 1, recovered: true })
    for (const update of [block(2), block(2), block(1)]) t.http.events.update(update)
    await settle()
    assert.deepEqual(t.seqs(), [1, 2])
  })

  test("are filtered here", async () => {
    const where = { height: { in: [102, 105] } }
    const t = await falling({ streams: [{ stream: "block_updates", where }] }, (http) => (http.sse = true))
    t.http.events.subscribed({ stream: "block_updates", seq: 1 })
    t.http.events.update(block(1, { snapshot: true }))
    for (const seq of [2, 3, 4]) t.http.events.update(block(seq))
    await settle()
    assert.deepEqual(t.seqs(), [2])
    assert.deepEqual(t.ws.position("block_updates"), { epoch: "e", seq: 4 })
  })

  test("of a key are asked for by key", async () => {
    const t = await falling({ streams: [{ stream: "account", key: "a" }] }, (http) => (http.sse = true))
    assert.equal(t.http.take().at(-1), "/events?stream=account%2Fa")
    t.http.events.subscribed({ stream: "account", key: "a", seq: 0 })
    t.http.events.update(account(1, "a", 0))
    t.http.events.update(account(3, "a", 1))
    await settle()
    assert.deepEqual(t.seqs(), [1, 3])
    assert.deepEqual(t.ws.position("account", "a"), { epoch: "e", seq: 3 })
  })

  for (const [what, text] of [
    ["are refused", 'data: {"type":"refused","error":{"code":-32010}}\n\n'],
    ["make no sense", "data: {\n\n"],
  ])
    test(`that ${what} make room for polling`, async () => {
      const t = await falling({}, serve)
      t.http.events.send(text)
      await settle()
      assert.equal(t.ws.transport, "polling")
    })

  test("that are held back on the way make room for polling after five seconds", async () => {
    const t = await falling({}, serve)
    await t.clock.advance(4999)
    assert.equal(t.ws.transport, "none")
    await t.clock.advance(1)
    assert.equal(t.ws.transport, "polling")
  })

  test("that end are taken up again behind the last update", async () => {
    const t = await falling({}, serve)
    t.http.events.subscribed({ stream: "block_updates", seq: 1, recovered: true })
    await t.clock.advance(6000)
    t.http.events.update(block(2))
    await settle()
    t.http.publish(block(2), block(3))
    t.http.events.end()
    await settle()
    assert.equal(t.ws.transport, "polling")
    assert.deepEqual(t.seqs(), [1, 2, 3])
    await t.clock.advance(2000)
    assert.equal(t.http.events.lastEventId, "e;block_updates=3")
    t.http.events.subscribed({ stream: "block_updates", seq: 3, recovered: true })
    await settle()
    assert.equal(t.ws.transport, "sse")
  })

  test("that do not come are tried again after half a minute of polling", async () => {
    const t = await falling({}, (http) => http.publish(block(1)))
    assert.equal(t.ws.transport, "polling")
    t.http.sse = true
    await t.clock.advance(28_000)
    assert.equal(t.http.events, undefined)
    await t.clock.advance(2000)
    t.http.events.subscribed({ stream: "block_updates", seq: 1 })
    await settle()
    assert.equal(t.ws.transport, "sse")
  })

  test("in which nothing comes for 45 s are left", async () => {
    const t = await falling({}, serve)
    t.http.events.subscribed({ stream: "block_updates", seq: 1 })
    await t.clock.advance(40_000)
    t.http.events.send(": still there\n\n")
    await t.clock.advance(40_000)
    assert.equal(t.ws.transport, "sse")
    await t.clock.advance(5000)
    assert.equal(t.ws.transport, "polling")
  })

  test("give way to the WebSocket, which goes on behind them", async () => {
    const t = await make().connected({ seq: 1 })
    t.http.sse = true
    t.socket.end(1006)
    await t.clock.advance(500)
    await t.clock.advance(2500)
    t.http.events.subscribed({ stream: "block_updates", seq: 1, recovered: true })
    t.http.events.update(block(2))
    await settle()
    assert.equal(t.ws.transport, "sse")
    t.socket.open().say(WELCOME)
    assert.equal(t.ws.transport, "websocket")
    assert.deepEqual(t.socket.asked[0].since, { epoch: "e", seq: 2 })
    await settle()
    assert.throws(() => t.http.events.update(block(3)))
    t.socket.acknowledge().pong().say(block(3))
    assert.deepEqual(t.seqs(), [2, 3])
  })

  test("leave nothing behind", async () => {
    const t = await falling({}, serve)
    t.http.events.subscribed({ stream: "block_updates", seq: 1 })
    await settle()
    t.ws.unmount()
    await settle()
    assert.equal(t.clock.pending, 0)
    assert.equal(t.ws.transport, "none")
  })

  test("another EventSource may be used", async () => {
    const made = []
    class Mine {
      constructor(url, options) {
        made.push([url, options.lastEventId])
        setImmediate(() => this.onmessage({ data: JSON.stringify(block(2)) }))
      }
      close() {
        made.push("closed")
      }
    }
    const t = await falling({ EventSource: Mine }, (http) => http.publish(block(1)))
    await settle()
    assert.deepEqual(made, [["http://sidecar:5000/events?stream=block_updates", "e;block_updates=1"]])
    assert.deepEqual(t.seqs(), [1, 2])
    t.ws.unmount()
    assert.equal(made.at(-1), "closed")
  })

  test("are read however they are cut up", async () => {
    const got = []
    const text =
      'event: tick\r\nid: e;a=1\r\ndata: {"a":\r\ndata: "\u00e4"}\r\n\r\n: comment\n\ndata:x\n\nretry: 5\nid: 2\n\ndata'
    const bytes = new TextEncoder().encode(text)
    const chunks = new ReadableStream({
      start(controller) {
        for (const byte of bytes) controller.enqueue(Uint8Array.of(byte))
        controller.close()
      },
    })
    const fetch = async () => new Response(chunks, { headers: { "Content-Type": "text/event-stream;charset=utf-8" } })
    const source = new FetchEventSource("http://x/", { fetch, clock: new FakeClock() })
    const ended = new Promise((resolve) => (source.onerror = resolve))
    source.onmessage = (event) => got.push(event)
    assert.deepEqual(await ended, { status: 200 })
    assert.deepEqual(got, [
      { type: "tick", lastEventId: "e;a=1", data: '{"a":\n"\u00e4"}' },
      { type: "message", lastEventId: "", data: "x" },
    ])
  })

  test("the id has the position of every subscription", () => {
    const at = (name, seq, epoch = "e") => ({ name, settled: seq === null ? null : { epoch, seq } })
    assert.equal(eventId([at("a", 42), at("b", 17)]), "e;a=42;b=17")
    assert.equal(eventId([at("a", 42), at("a/k", 7), at("b", null), at("c", 1, "old")]), "e;a=42;a/k=7;old;c=1")
    assert.equal(eventId([at("a", null)]), "")
  })
})
