// The file that FRAMES names is written by tests/web/frames.py: the sidecar's frames in JSON and in protobuf.
import assert from "node:assert/strict"
import { readFileSync } from "node:fs"
import { describe, test } from "node:test"
import { ProtoCodec } from "../../bridge/web/client/proto.js"
import { JsonCodec } from "../../bridge/web/client/json.js"
import { WELCOME, make, settle } from "./fakes.js"

const { schema: text, frames } = JSON.parse(readFileSync(process.env.FRAMES, "utf8"))
const bytes = (base64) => new Uint8Array(Buffer.from(base64, "base64"))
const buffer = (base64) => bytes(base64).buffer
const schema = bytes(text)
const named = (name) => frames.find((frame) => frame.name.startsWith(name))

describe("protobuf frames", () => {
  test("are read as JSON ones are", () => {
    const codec = new ProtoCodec(schema)
    for (const { name, json, proto } of frames)
      assert.deepEqual(codec.decode(buffer(proto)), new JsonCodec().decode(json), name)
    assert.ok(frames.length > 50)
  })

  test("and with 64-bit integers as strings", () => {
    const codec = new ProtoCodec(schema, { int64: "string" })
    for (const { name, int64, proto } of frames) assert.deepEqual(codec.decode(buffer(proto)), JSON.parse(int64), name)
  })

  test("that are cut off are refused", () => {
    const codec = new ProtoCodec(schema)
    const whole = bytes(named("update of block_updates 1").proto)
    for (let length = 1; length < whole.length; length++)
      assert.throws(() => codec.decode(whole.slice(0, length).buffer))
  })

  test("of a kind or with fields that are not known yet do no harm", () => {
    const codec = new ProtoCodec(schema)
    assert.deepEqual(codec.decode(Uint8Array.of(0x9a, 0x06, 0).buffer), { type: "unknown" }) // field 99
    assert.deepEqual(codec.decode(new ArrayBuffer(0)), { type: "unknown" })
    const pong = bytes(named("pong").proto)
    const more = Uint8Array.of(pong[0], pong[1] + 3, ...pong.slice(2), 0x98, 0x06, 7) // field 99 of the frame in it
    assert.deepEqual(codec.decode(more.buffer), codec.decode(pong.buffer))
  })

  test("a request that protobuf has no place for is refused", () => {
    const codec = new ProtoCodec(schema)
    assert.throws(() => codec.encode({ method: "consensus.stats", id: 1 }), /cannot be asked for in protobuf/)
    assert.throws(() => codec.encode({ method: "state_stream.subscribe", params: [{ nonsense: 1 }] }), /nonsense/)
  })
})

describe("format: proto", () => {
  const serve = (t) => {
    const { fetch } = t.http
    return async (href, options) => (href.endsWith("/schema.binpb") ? new Response(schema) : fetch(href, options))
  }

  /** Waits for what is loaded from disk, up to 20 s. */
  const loaded = async (condition) => {
    for (let turn = 0; turn < 4000 && !condition(); turn++) await new Promise((resolve) => setTimeout(resolve, 5))
    await settle()
  }

  test("offers theblock.v1.proto, sends and reads binary frames", async () => {
    let t
    t = make({ format: "proto", fetch: (...request) => serve(t)(...request) })
    t.ws.mount()
    await loaded(() => t.socket)
    assert.deepEqual(t.socket.protocols, ["theblock.v1.proto"])
    const codec = new ProtoCodec(schema)
    t.socket.open().onmessage({ data: Uint8Array.of(0x22, 0).buffer }) // a welcome without members
    assert.equal(t.ws.isConnected(), true)
    assert.equal(t.socket.sent.length, 2)
    assert.ok(t.socket.sent.every((message) => message instanceof Uint8Array))
    assert.deepEqual(
      t.socket.sent[0],
      codec.encode({ method: "state_stream.subscribe", params: [{ stream: "block_updates" }], id: 1 }),
    )
    const { json, proto } = named("update of block_updates 1")
    t.socket.say(buffer(proto))
    assert.deepEqual(t.told, [JSON.parse(json)])
  })

  test("a text frame ends the connection", async () => {
    let t
    t = make({ format: "proto", fetch: (...request) => serve(t)(...request) })
    t.ws.mount()
    await loaded(() => t.socket)
    t.socket.open().say(WELCOME)
    assert.equal(t.ws.isConnected(), false)
  })

  test("without a schema it is tried again, and polled meanwhile", async () => {
    const t = make({ format: "proto" })
    t.ws.mount()
    await loaded(() => t.events("disconnected").length > 0)
    assert.match(t.events("disconnected")[0].sentence, /schema.binpb is answered with HTTP 404/)
    assert.equal(t.sockets.length, 0)
    assert.equal(t.ws.reconnectAttempts, 1)
  })
})
