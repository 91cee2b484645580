import assert from "node:assert/strict"
import { afterEach, describe, test } from "node:test"
import { BlockWebSocket, DEFAULT_STREAMS } from "../../bridge/web/client/theblock.js"
import { FakeSocket, WELCOME, block, make, settle } from "./fakes.js"

describe("connecting", () => {
  afterEach(() => delete globalThis.BLOCK_BUSTER_WS)

  test("has the defaults that are documented", () => {
    const ws = new BlockWebSocket()
    assert.equal(ws.url, "ws://localhost:5000/ws")
    assert.deepEqual([...ws.subscriptions], ["block_updates", "metrics", "network", "trading"])
    assert.deepEqual(DEFAULT_STREAMS, [...ws.subscriptions])
    assert.equal(ws.reconnectAttempts, 0)
    assert.equal(ws.reconnectDelay, 1000)
    assert.equal(ws.isConnected(), false)
    assert.equal(ws.transport, "none")
  })

  test("takes the URL from the page", () => {
    globalThis.BLOCK_BUSTER_WS = "ws://elsewhere/ws"
    assert.equal(new BlockWebSocket().url, "ws://elsewhere/ws")
    assert.equal(new BlockWebSocket("ws://here/ws").url, "ws://here/ws")
    assert.equal(new BlockWebSocket({ url: "ws://there/ws" }).url, "ws://there/ws")
  })

  test("mount offers theblock.v1.json", () => {
    const { ws, sockets } = make()
    ws.mount()
    assert.equal(sockets.length, 1)
    assert.equal(sockets[0].url, "ws://sidecar:5000/ws")
    assert.deepEqual(sockets[0].protocols, ["theblock.v1.json"])
    assert.equal(sockets[0].binaryType, "arraybuffer")
  })

  test("mounting twice makes one connection", () => {
    const { ws, sockets } = make()
    assert.equal(ws.mount(), ws)
    ws.mount()
    ws.connect()
    assert.equal(sockets.length, 1)
  })

  test("connect mounts", () => {
    const { ws, sockets } = make()
    ws.connect()
    assert.equal(sockets.length, 1)
  })

  test("is connected once the sidecar has said welcome, not before", async () => {
    const t = make()
    t.ws.mount()
    await settle()
    t.socket.open()
    assert.equal(t.ws.isConnected(), false)
    assert.equal(t.socket.sent.length, 0)
    t.socket.say(WELCOME)
    assert.equal(t.ws.isConnected(), true)
    assert.equal(t.ws.transport, "websocket")
    assert.deepEqual(t.events("connected"), [WELCOME])
    assert.deepEqual(t.lines.at(-1), ["info", "[WS] Connected"])
  })

  test("unmount closes with 1000 and leaves no timer and no listener", async () => {
    const t = await make().connected()
    assert.ok(t.clock.pending > 0)
    assert.equal(t.document.listeners, 1)
    t.ws.unmount()
    assert.equal(t.socket.closed, 1000)
    assert.equal(t.clock.pending, 0)
    assert.equal(t.document.listeners, 0)
    assert.equal(t.ws.isConnected(), false)
    await t.clock.advance(600_000)
    assert.equal(t.sockets.length, 1)
  })

  test("unmount in the middle of a handshake and of the first values leaves nothing either", async () => {
    const t = make()
    t.http.hang = true
    t.ws.mount()
    t.ws.unmount()
    await settle()
    assert.equal(t.clock.pending, 0)
    t.socket.open().say(WELCOME)
    assert.equal(t.ws.isConnected(), false)
    assert.equal(t.ws.store.get("ws").connected, false)
  })

  test("mounted again, goes on where it was", async () => {
    const t = await make().connected({ seq: 4 })
    t.socket.say(block(5))
    t.ws.unmount()
    t.ws.mount()
    await settle()
    t.socket.begin()
    assert.deepEqual(t.socket.asked, [{ stream: "block_updates", since: { epoch: "e", seq: 5 } }])
    assert.equal(t.ws.getMetrics().recovered, 1)
  })

  test("a handshake that takes more than ten seconds is given up and tried again", async () => {
    const t = make()
    t.ws.mount()
    await t.clock.advance(9_999)
    assert.equal(t.sockets.length, 1)
    await t.clock.advance(501)
    assert.equal(t.sockets[0].closed, 1000)
    assert.equal(t.sockets.length, 2)
    assert.equal(t.events("disconnected")[0].sentence, "no answer in time")
  })

  test("a WebSocket that cannot be made is given up, without its URL or token in the log", async () => {
    const t = make({ token: "secret" })
    FakeSocket.refuse = new SyntaxError("the subprotocol bearer.secret is invalid")
    t.ws.mount()
    await settle()
    assert.equal(t.ws.store.get("ws").gaveUp, true)
    assert.equal(t.ws.transport, "polling")
    assert.ok(!JSON.stringify(t.lines).includes("secret"))
  })

  test("64-bit integers as strings are asked for in the URL", async () => {
    const t = make({ int64: "string" })
    t.ws.mount()
    assert.equal(t.socket.url, "ws://sidecar:5000/ws?int64=string")
    await settle()
    assert.ok(t.http.take()[0].endsWith("?int64=string"))
  })

  test("what an old socket says late is not heard", async () => {
    const t = await make().connected()
    const [old] = t.sockets
    old.end()
    await t.clock.advance(500)
    t.socket.begin()
    old.say(block(1))
    old.end(4500)
    assert.deepEqual(t.seqs(), [])
    assert.equal(t.ws.isConnected(), true)
  })
})

describe("tokens", () => {
  test("go as a subprotocol and as a header", async () => {
    const t = make({ token: "abc" })
    t.ws.mount()
    await settle()
    assert.deepEqual(t.socket.protocols, ["theblock.v1.json", "bearer.abc"])
    assert.equal(t.http.asked[0].headers.Authorization, "Bearer abc")
  })

  test("are asked for before each connection", async () => {
    let number = 0
    const t = make({ token: async () => `t${++number}` })
    t.ws.mount()
    await settle()
    assert.deepEqual(t.socket.protocols, ["theblock.v1.json", "bearer.t1"])
    t.socket.begin().end(4001, { error: "token_expired" })
    await t.clock.advance(500)
    assert.equal(t.sockets.length, 2)
    assert.deepEqual(t.socket.protocols, ["theblock.v1.json", "bearer.t2"])
  })

  test("that cannot be had now are asked for again", async () => {
    let works = false
    const t = make({ token: async () => (works ? "t" : Promise.reject(new Error("the shop is closed"))) })
    t.ws.mount()
    await settle()
    assert.equal(t.sockets.length, 0)
    assert.equal(t.events("disconnected")[0].sentence, "it cannot begin: the shop is closed")
    works = true
    await t.clock.advance(500)
    assert.deepEqual(t.socket.protocols, ["theblock.v1.json", "bearer.t"])
  })

  test("that come after the unmount are not used", async () => {
    let give
    const t = make({ token: () => new Promise((resolve) => (give = resolve)), fetch: null })
    t.ws.mount()
    await settle()
    t.ws.unmount()
    give("late")
    await settle()
    assert.equal(t.sockets.length, 0)
  })

  test("are renewed when polling is answered with 401", async () => {
    let number = 0
    const t = make({ token: () => `t${++number}`, transports: ["polling"] })
    t.http.status = 401
    t.ws.mount()
    await settle()
    t.http.status = null
    await t.clock.advance(2000)
    const sent = t.http.asked.map(({ headers }) => headers.Authorization)
    assert.equal(sent[0], "Bearer t1")
    assert.ok(Number(/\d+/.exec(sent.at(-1))[0]) > 1)
  })
})

describe("a tab that nobody looks at", () => {
  test("lets go after a minute, and catches up in one step when it is shown", async () => {
    const t = await make().connected({ seq: 4 })
    t.socket.say(block(5))
    t.document.show(false)
    await t.clock.advance(30_000)
    t.socket.pong()
    await t.clock.advance(29_999)
    assert.equal(t.ws.isConnected(), true)
    await t.clock.advance(1)
    assert.equal(t.ws.isConnected(), false)
    assert.equal(t.socket.closed, 1000)
    assert.equal(t.ws.store.get("ws").hidden, true)
    assert.equal(t.clock.pending, 0)
    await t.clock.advance(3_600_000)
    assert.equal(t.sockets.length, 1)
    assert.equal(t.http.take().length, 1)
    t.document.show(true)
    assert.equal(t.sockets.length, 2)
    t.socket.begin()
    assert.deepEqual(t.socket.asked, [{ stream: "block_updates", since: { epoch: "e", seq: 5 } }])
    t.socket.say(block(6))
    assert.deepEqual(t.seqs(), [5, 6])
    assert.equal(t.ws.store.get("ws").hidden, false)
  })

  test("that is shown again in time keeps its connection", async () => {
    const t = await make().connected()
    t.document.show(false)
    await t.clock.advance(30_000)
    t.socket.pong()
    t.document.show(true)
    await t.clock.advance(35_000)
    assert.equal(t.ws.isConnected(), true)
    assert.equal(t.sockets.length, 1)
  })

  test("lets go of polling too", async () => {
    const t = make({ transports: ["polling"] })
    t.ws.mount()
    t.document.show(false)
    await t.clock.advance(60_000)
    t.http.take()
    await t.clock.advance(60_000)
    assert.deepEqual(t.http.take(), [])
    t.document.show(true)
    await settle()
    assert.deepEqual(t.http.take(), ["/state/block_updates"])
  })

  test("that is shown does not wait for the pause to end", async () => {
    const t = await make().connected()
    t.socket.end(1012, { retry_after_ms: 60_000 })
    t.document.show(false)
    t.document.show(true)
    assert.equal(t.sockets.length, 2)
  })

  test("that begins hidden lets go as well", async () => {
    const t = make()
    t.document.hidden = true
    t.ws.mount()
    await settle()
    t.socket.begin()
    assert.equal(t.ws.isConnected(), true)
    await t.clock.advance(30_000)
    t.socket.pong()
    await t.clock.advance(30_000)
    assert.equal(t.ws.isConnected(), false)
  })
})
