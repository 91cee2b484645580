import assert from "node:assert/strict"
import { afterEach, describe, test } from "node:test"
import { percentOf } from "../../bridge/web/client/features.js"
import { httpBase } from "../../bridge/web/client/http.js"
import { Features, Store, start } from "../../bridge/web/client/theblock.js"
import { matches } from "../../bridge/web/client/where.js"
import { FakeClock, FakeHttp, FakeSocket, FakeStorage, settle } from "./fakes.js"

const quiet = { debug() {}, info() {}, warn() {}, error() {} }

describe("feature flags", () => {
  test("websockets is on, what is not known is off", () => {
    const features = new Features({ storage: new FakeStorage() })
    assert.equal(features.isEnabled("websockets"), true)
    assert.equal(features.isEnabled("nonsense"), false)
    assert.deepEqual(features.getAll(), { websockets: true })
  })

  test("enable and disable hold in this browser, over loads", () => {
    const storage = new FakeStorage()
    const features = new Features({ storage })
    features.disable("websockets")
    features.enable("charts")
    assert.equal(features.isEnabled("websockets"), false)
    const next = new Features({ storage })
    assert.deepEqual(next.getAll(), { websockets: false, charts: true })
    next.reset("websockets")
    assert.equal(next.isEnabled("websockets"), true)
    assert.equal(new Features({ storage }).isEnabled("websockets"), true)
  })

  test("what the browser overrides stands before what the sidecar says", () => {
    const features = new Features({ storage: new FakeStorage() })
    features.enable("websockets")
    features.configure({ websockets: false, charts: true, nonsense: "yes", nothing: undefined })
    assert.deepEqual(features.getAll(), { websockets: true, charts: true })
  })

  test("the visitor keeps an id, and so its side of a rollout", () => {
    const storage = new FakeStorage()
    const { visitor } = new Features({ storage })
    assert.match(visitor, /^[0-9a-f]{16}$/)
    assert.equal(new Features({ storage }).visitor, visitor)
    assert.notEqual(new Features({ storage: new FakeStorage() }).visitor, visitor)
  })

  test("a percentage is that share of visitors, and grows without anybody falling out", () => {
    const sides = (percent) => {
      const features = []
      for (let number = 0; number < 10_000; number++) {
        const storage = new FakeStorage()
        storage.setItem("theblock.visitor", `visitor${number}`)
        features.push(new Features({ storage, flags: { websockets: percent } }).isEnabled("websockets"))
      }
      return features
    }
    const [none, ten, half, all] = [0, 10, 50, 100].map(sides)
    const share = (found) => found.filter(Boolean).length / found.length
    assert.equal(share(none), 0)
    assert.equal(share(all), 1)
    assert.ok(Math.abs(share(ten) - 0.1) < 0.02, `${share(ten)}`)
    assert.ok(Math.abs(share(half) - 0.5) < 0.03, `${share(half)}`)
    assert.ok(ten.every((on, number) => !on || half[number]))
  })

  test("features have their shares each by itself", () => {
    const sides = new Set()
    for (let number = 0; number < 50; number++) {
      const features = new Features({ storage: new FakeStorage(), flags: { websockets: 50, charts: 50 } })
      sides.add(JSON.stringify(features.getAll()))
    }
    assert.equal(sides.size, 4)
  })

  test("percentOf is the same for the same text, and never 100", () => {
    assert.equal(percentOf("websockets:abc"), percentOf("websockets:abc"))
    assert.notEqual(percentOf("websockets:abc"), percentOf("charts:abc"))
    for (let number = 0; number < 1000; number++) assert.ok(percentOf(`${number}`) >= 0 && percentOf(`${number}`) < 100)
  })

  test("a storage that may not be used, is full or holds nonsense does no harm", () => {
    const forbidden = {
      getItem: () => assert.fail("read"),
      setItem: () => {
        throw new Error("forbidden")
      },
    }
    const features = new Features({ storage: forbidden })
    features.disable("websockets")
    assert.equal(features.isEnabled("websockets"), false)
    const nonsense = new FakeStorage()
    for (const text of ["{", "null", "7", '{"websockets":"no"}']) {
      nonsense.setItem("theblock.features", text)
      assert.equal(new Features({ storage: nonsense }).isEnabled("websockets"), true)
    }
    const storage = new FakeStorage()
    const full = new Features({ storage })
    storage.setItem = () => {
      throw new Error("full")
    }
    full.disable("websockets")
    assert.equal(full.isEnabled("websockets"), false)
  })
})

describe("start", () => {
  afterEach(() => ["ws", "features", "BLOCK_BUSTER_WS"].forEach((name) => delete globalThis[name]))

  const begin = async (config, options = {}) => {
    FakeSocket.all = []
    FakeSocket.refuse = null
    const http = new FakeHttp()
    http.config = config
    const started = await start({
      fetch: http.fetch,
      WebSocket: FakeSocket,
      clock: new FakeClock(),
      storage: new FakeStorage(),
      log: quiet,
      location: new URL("http://dash.example/"),
      ...options,
    })
    return { http, ...started }
  }

  test("asks the sidecar, with the visitor's id, and mounts", async () => {
    const { http, ws, features, store } = await begin({
      ws_url: "ws://sidecar:5000/ws",
      websockets: true,
      poll_interval_ms: 500,
    })
    assert.deepEqual(http.take()[0], `/config.json?visitor=${features.visitor}`)
    assert.equal(ws.url, "ws://sidecar:5000/ws")
    assert.equal(FakeSocket.all.length, 1)
    assert.equal(ws.store, store)
    assert.equal(globalThis.ws, undefined)
  })

  test("polls as often as the sidecar says while the feature is off, and opens no WebSocket", async () => {
    const { http, ws } = await begin({ websockets: false, poll_interval_ms: 500 })
    await settle()
    assert.equal(FakeSocket.all.length, 0)
    assert.equal(ws.transport, "polling")
    assert.equal(ws.store.get("usePolling"), true)
    assert.ok(http.take().includes("/state/block_updates"))
  })

  test("a percentage puts this visitor on one side", async () => {
    const { features, ws } = await begin({ websockets: 0 })
    assert.equal(features.isEnabled("websockets"), false)
    await settle()
    assert.equal(ws.transport, "polling")
    assert.equal((await begin({ websockets: 100 })).features.isEnabled("websockets"), true)
  })

  test("a feature that is off is off whatever transports are asked for", async () => {
    const { ws } = await begin({ websockets: false }, { transports: ["websocket"] })
    await settle()
    assert.equal(FakeSocket.all.length, 0)
    assert.equal(ws.transport, "none")
  })

  test("works without a config", async () => {
    const { ws, config } = await begin(null)
    assert.deepEqual(config, {})
    assert.equal(ws.url, "ws://localhost:5000/ws")
    assert.equal(FakeSocket.all.length, 1)
  })

  test("sets window.ws and window.features on localhost", async () => {
    for (const host of ["localhost", "127.0.0.1", "[::1]"]) {
      const { ws, features } = await begin(null, { location: new URL(`http://${host}:4173/`) })
      assert.equal(globalThis.ws, ws)
      assert.equal(globalThis.features, features)
      ws.unmount()
    }
  })

  test("the page's own URL stands before that of the config", async () => {
    globalThis.BLOCK_BUSTER_WS = "ws://mine:1/ws"
    const { ws } = await begin({ ws_url: "ws://sidecar:5000/ws" })
    assert.equal(ws.url, "ws://mine:1/ws")
    assert.equal((await begin({ ws_url: "ws://sidecar/ws" }, { url: "ws://given/ws" })).ws.url, "ws://given/ws")
  })

  test("a page that came over TLS connects over TLS", async () => {
    const { ws } = await begin({ ws_url: "ws://dash.example/ws" }, { location: new URL("https://dash.example/") })
    assert.equal(ws.url, "wss://dash.example/ws")
  })

  test("says where it asks", async () => {
    const { http } = await begin({ ws_url: "ws://a/ws" }, { config: "http://dash.example/path/config.json" })
    assert.match(http.take()[0], /^\/path\/config\.json/)
  })
})

describe("the store", () => {
  test("tells who watches a key, until that ends", () => {
    const store = new Store()
    const got = []
    const end = store.subscribe("a", (value, before) => got.push([value, before]))
    store.subscribe("b", () => got.push("b"))
    store.set("a", 1)
    store.set("a", 1)
    store.set("a", 2)
    end()
    store.set("a", 3)
    assert.deepEqual(got, [
      [1, undefined],
      [2, 1],
    ])
    assert.equal(store.get("a"), 3)
    assert.equal(store.get("nothing"), undefined)
  })

  test("a watcher that throws stops nobody", () => {
    const errors = []
    const store = new Store({ log: { error: (...words) => errors.push(words) } })
    const got = []
    store.subscribe("a", () => {
      throw new Error("mine")
    })
    store.subscribe("a", (value) => got.push(value))
    store.set("a", 1)
    assert.deepEqual(got, [1])
    assert.equal(errors.length, 1)
  })

  test("a watcher may set and end while it is told", () => {
    const store = new Store()
    const end = store.subscribe("a", (value) => {
      end()
      store.set("a", value + 1)
    })
    store.set("a", 1)
    assert.equal(store.get("a"), 2)
  })

  test("remembers the last hundred changes", () => {
    const store = new Store({ clock: { now: () => 5 } })
    for (let value = 0; value < 150; value++) store.set(value % 2 ? "odd" : "even", value)
    assert.equal(store.getHistory().length, 100)
    assert.deepEqual(store.getHistory()[0], { key: "even", value: 50, time: 5 })
    assert.deepEqual(store.getHistory("odd").at(-1), { key: "odd", value: 149, time: 5 })
    assert.equal(store.getHistory("odd").length, 50)
  })
})

describe("small things", () => {
  test("the address of HTTP is that of the WebSocket", () => {
    assert.equal(httpBase("ws://localhost:5000/ws"), "http://localhost:5000")
    assert.equal(httpBase("wss://example.org/bridge/ws?token=x"), "https://example.org/bridge")
    assert.equal(httpBase("ws://example.org"), "http://example.org")
  })

  test("filters are those of the sidecar", () => {
    const data = { height: 5, status: "open", ok: true, none: null }
    for (const where of [
      {},
      { height: 5 },
      { ok: true },
      { none: null },
      { absent: null },
      { status: { prefix: "op" } },
      { height: { gt: 4, lte: 5 } },
      { height: { in: [4, 5] } },
      { height: 5, status: "open" },
      { status: { gte: "open", lt: "p" } },
    ])
      assert.equal(matches(where, data), true, JSON.stringify(where))
    for (const where of [
      { height: 4 },
      { ok: 1 },
      { height: "5" },
      { absent: 0 },
      { status: { prefix: "x" } },
      { height: { prefix: "5" } },
      { height: { gt: 5 } },
      { height: { gt: "4" } },
      { ok: { gte: 0 } },
      { height: { in: ["5"] } },
      { height: { odd: 1 } },
    ])
      assert.equal(matches(where, data), false, JSON.stringify(where))
  })
})
