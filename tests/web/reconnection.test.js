import assert from "node:assert/strict"
import { describe, test } from "node:test"
import { WELCOME, make, settle } from "./fakes.js"

/** Ends the newest connection, and returns how long the client waits until it makes the next. */
async function pause(t, code = 1006, reason = "") {
  const before = t.sockets.length
  t.socket.end(code, reason)
  const line = t.lines.findLast(([, text]) => text.includes("Reconnecting"))
  const [, ms] = /in (\d+)ms/.exec(line[1])
  await t.clock.advance(Number(ms) - 1)
  assert.equal(t.sockets.length, before)
  await t.clock.advance(1)
  assert.equal(t.sockets.length, before + 1)
  return Number(ms)
}

describe("reconnection", () => {
  test("pauses double up to the cap", async () => {
    const t = make({ transports: ["websocket"] })
    t.ws.mount()
    const pauses = []
    for (let count = 0; count < 8; count++) pauses.push(await pause(t))
    assert.deepEqual(pauses, [500, 1000, 2000, 4000, 8000, 15_000, 15_000, 15_000])
    assert.equal(t.ws.reconnectAttempts, 8)
    assert.equal(t.ws.reconnectDelay, 30_000)
  })

  test("pauses have full jitter: anything up to the delay", async () => {
    for (const [random, wait] of [
      [0, 0],
      [0.25, 250],
      [0.999, 999],
    ]) {
      const t = make({ random: () => random, transports: ["websocket"] })
      t.ws.mount()
      t.socket.end()
      assert.deepEqual(t.lines.at(-1), ["info", `[WS] Reconnecting in ${wait}ms (attempt 1)...`])
    }
  })

  test("reconnectDelay and reconnectCap are options", async () => {
    const t = make({ reconnectDelay: 100, reconnectCap: 300, transports: ["websocket"] })
    t.ws.mount()
    assert.equal(t.ws.reconnectDelay, 100)
    assert.deepEqual([await pause(t), await pause(t), await pause(t), await pause(t)], [50, 100, 150, 150])
  })

  test("pauses begin anew after a connection that was good for five seconds", async () => {
    const t = make()
    t.ws.mount()
    for (let count = 0; count < 3; count++) await pause(t)
    t.socket.begin()
    await t.clock.advance(5000)
    assert.equal(t.ws.reconnectAttempts, 0)
    assert.equal(await pause(t), 500)
  })

  test("and not after one that was not", async () => {
    const t = make()
    t.ws.mount()
    for (let count = 0; count < 3; count++) await pause(t)
    t.socket.begin()
    await t.clock.advance(4999)
    assert.equal(t.ws.reconnectAttempts, 3)
    assert.equal(await pause(t), 4000)
  })

  test("can be reset by hand", async () => {
    const t = make({ transports: ["websocket"] })
    t.ws.mount()
    for (let count = 0; count < 4; count++) await pause(t)
    t.ws.reconnectAttempts = 0
    t.ws.reconnectDelay = 1000
    assert.equal(await pause(t), 500)
    assert.equal(t.ws.reconnectAttempts, 1)
  })

  test("scheduleReconnect waits for what it is told, and a bit more", async () => {
    const t = make({ transports: [] })
    t.ws.mount()
    t.ws.scheduleReconnect(5000)
    assert.deepEqual(t.lines.at(-1), ["info", "[WS] Reconnecting in 5500ms (attempt 1)..."])
  })

  test("scheduleReconnect does nothing once it is unmounted", async () => {
    const t = await make().connected()
    t.ws.unmount()
    t.ws.scheduleReconnect()
    assert.equal(t.clock.pending, 0)
  })

  test("the time in a close reason is waited for", async () => {
    const t = await make().connected()
    assert.equal(await pause(t, 1012, { error: "restarting", retry_after_ms: 2500 }), 3000)
    assert.match(t.events("disconnected")[0].sentence, /closed with 1012, restarting/)
    assert.equal(t.events("disconnected")[0].code, 1012)
  })

  test("and that of a going_away", async () => {
    const t = await make().connected()
    t.socket.say({ type: "going_away", retry_after_ms: 4000, reason: "restart" })
    assert.equal(await pause(t, 1006), 4500)
  })

  test("the last word counts, and only once", async () => {
    const t = await make().connected()
    t.socket.say({ type: "going_away", retry_after_ms: 4000, reason: "restart" })
    assert.equal(await pause(t, 1001, { retry_after_ms: 1000 }), 1500)
    assert.equal(await pause(t), 1000)
  })

  for (const reason of ["not JSON", "7", "null", '{"retry_after_ms":"soon"}', '{"retry_after_ms":-5}'])
    test(`a reason that says nothing of use is not waited for: ${reason}`, async () => {
      const t = await make().connected()
      assert.equal(await pause(t, 1013, reason), 500)
    })

  test("nobody is sent away for more than ten minutes", async () => {
    const t = await make().connected()
    t.socket.end(1013, { retry_after_ms: 1e12 })
    assert.match(t.lines.at(-1)[1], /in 600500ms/)
  })

  for (const code of [1000, 1001, 1006, 1011, 1012, 1013, 4000, 4001, 4004, 4029, 4499])
    test(`comes back after ${code}`, async () => {
      const t = await make().connected()
      assert.equal(await pause(t, code), 500)
    })

  for (const code of [4500, 4501, 4503, 4999])
    test(`does not come back after ${code}, and goes on without the WebSocket`, async () => {
      const t = await make().connected()
      t.socket.end(code, { error: "not_allowed", message: "the origin is not allowed" })
      assert.equal(t.ws.store.get("ws").gaveUp, true)
      assert.match(t.events("gave_up")[0].sentence, /the origin is not allowed/)
      await t.clock.advance(600_000)
      assert.equal(t.sockets.length, 1)
      assert.equal(t.ws.transport, "polling")
    })

  for (const code of [1002, 1003, 1007, 1009])
    test(`comes back after ${code}, but not after the third in a row`, async () => {
      const t = make()
      t.ws.mount()
      await pause(t, code)
      await pause(t, code)
      t.socket.end(code)
      assert.equal(t.ws.store.get("ws").gaveUp, true)
      await t.clock.advance(60_000)
      assert.equal(t.sockets.length, 3)
    })

  test("a steady connection forgives such ends", async () => {
    const t = make()
    t.ws.mount()
    await pause(t, 1002)
    await pause(t, 1002)
    await settle()
    t.socket.begin()
    await t.clock.advance(5000)
    assert.equal(await pause(t, 1002), 500)
  })

  test("maxReconnectAttempts tries in a row, then it is given up", async () => {
    const t = make({ maxReconnectAttempts: 3 })
    t.ws.mount()
    for (let count = 0; count < 3; count++) await pause(t)
    t.socket.end()
    await t.clock.advance(600_000)
    assert.equal(t.sockets.length, 4)
    assert.equal(t.ws.store.get("ws").gaveUp, true)
    assert.deepEqual(t.events("gave_up"), [{ sentence: "there were 3 tries in a row" }])
  })

  test("connect begins again after that", async () => {
    const t = make({ maxReconnectAttempts: 1 })
    t.ws.mount()
    await pause(t)
    t.socket.end()
    t.ws.reconnectAttempts = 0
    t.ws.connect()
    assert.equal(t.sockets.length, 3)
    await settle()
    t.socket.begin()
    assert.equal(t.ws.isConnected(), true)
    assert.equal(t.ws.store.get("ws").gaveUp, false)
    assert.equal(t.ws.transport, "websocket")
  })

  test("by default there is no limit", async () => {
    const t = make({ transports: ["websocket"] })
    t.ws.mount()
    for (let count = 0; count < 50; count++) await pause(t)
    assert.equal(t.ws.reconnectAttempts, 50)
  })

  test("connect during a pause does not wait, and there is one connection", async () => {
    const t = await make().connected()
    t.socket.end(1012, { retry_after_ms: 9000 })
    t.ws.connect()
    assert.equal(t.sockets.length, 2)
    t.socket.begin()
    await t.clock.advance(20_000)
    assert.equal(t.sockets.length, 2)
  })

  test("a handler of ws:disconnected may connect", async () => {
    const t = await make().connected()
    const end = t.ws.on("ws:disconnected", () => t.ws.connect())
    t.socket.end()
    end()
    assert.equal(t.sockets.length, 2)
    t.socket.open().say(WELCOME)
    await t.clock.advance(9000)
    assert.equal(t.sockets.length, 2)
  })

  test("requests on their way are told", async () => {
    const t = await make().connected()
    const asked = assert.rejects(t.ws.request("session.stats"), /the connection was lost/)
    t.socket.end()
    await asked
    assert.equal(t.clock.pending, 2) // the pause, and until something else feeds the dashboard
  })
})
