/**
 * theblock.v1.proto: protobuf in binary frames, turned into the same objects as JSON. What the messages are is read
 * from the sidecar's /schema.binpb, so that a stream that is added needs no new client. It is loaded when it is needed.
 */

const SCOPE = ".theblock.state.v1."
const [VARINT, FIXED64, BYTES, FIXED32] = [0, 1, 2, 5] // wire types
const NULL_UNSET = 2 // Unset.UNSET_NULL of options.proto
const [STREAM_OPTION, JSON_OPTION] = [50101, 50102] // field numbers of options.proto

const text = (bytes) => new TextDecoder().decode(bytes)
const utf8 = (string) => new TextEncoder().encode(string)

// The wire

/** Splits a message into its fields: [number, value], where value is a BigInt, a DataView or bytes. */
function split(bytes) {
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength)
  const fields = []
  let at = 0
  const varint = () => {
    let value = 0n
    for (let shift = 0n; ; shift += 7n) {
      const byte = view.getUint8(at++)
      value |= BigInt(byte & 0x7f) << shift
      if (byte < 0x80) return value
    }
  }
  const take = (size) => {
    if (at + size > bytes.length) throw new Error("a field is cut off")
    return bytes.subarray(at, (at += size))
  }
  while (at < bytes.length) {
    const key = varint()
    const wire = Number(key & 7n)
    let value
    if (wire === VARINT) value = varint()
    else if (wire === BYTES) value = take(Number(varint()))
    else if (wire === FIXED64 || wire === FIXED32) {
      const { buffer, byteOffset, byteLength } = take(wire === FIXED64 ? 8 : 4)
      value = new DataView(buffer, byteOffset, byteLength)
    } else throw new Error(`wire type ${wire}`)
    fields.push([Number(key >> 3n), value])
  }
  return fields
}

function writeVarint(out, value) {
  let rest = BigInt.asUintN(64, BigInt(value))
  for (; rest > 0x7fn; rest >>= 7n) out.push(Number(rest & 0x7fn) | 0x80)
  out.push(Number(rest))
}

const zigzag = (value) => (value >> 1n) ^ -(value & 1n)

/** How a scalar is read, by its number in descriptor.proto; 64-bit integers are BigInts. */
const SCALARS = {
  1: (view) => (Number.isFinite(view.getFloat64(0, true)) ? view.getFloat64(0, true) : null), // double
  3: (value) => BigInt.asIntN(64, value), // int64
  4: (value) => value, // uint64
  5: (value) => Number(BigInt.asIntN(32, value)), // int32
  6: (view) => view.getBigUint64(0, true), // fixed64
  7: (view) => view.getUint32(0, true), // fixed32
  8: (value) => value !== 0n, // bool
  9: text, // string
  13: (value) => Number(BigInt.asUintN(32, value)), // uint32
  15: (view) => view.getInt32(0, true), // sfixed32
  16: (view) => view.getBigInt64(0, true), // sfixed64
  17: (value) => Number(zigzag(value)), // sint32
  18: zigzag, // sint64
}
const [DOUBLE, BOOL, STRING, MESSAGE, BLOB, ENUM] = [1, 8, 9, 11, 12, 14]
const BIG = new Set([3, 4, 6, 16, 18])
const PACKED_SIZES = { 1: 8, 6: 8, 16: 8, 7: 4, 15: 4 }
const EMPTY = { [BOOL]: false, [STRING]: "" }

/** Returns the values of a packed repeated field. */
function unpack(type, bytes) {
  const size = PACKED_SIZES[type]
  if (size === undefined) {
    const values = []
    for (let at = 0, begin = 0; at < bytes.length; at++)
      if (bytes[at] < 0x80) {
        values.push(split(Uint8Array.of(VARINT | 8, ...bytes.subarray(begin, at + 1)))[0][1])
        begin = at + 1
      }
    return values
  }
  const view = (index) => new DataView(bytes.buffer, bytes.byteOffset + index * size, size)
  return Array.from({ length: bytes.length / size }, (_, index) => view(index))
}

// The schema

const all = (fields, number) => fields.filter((field) => field[0] === number).map((field) => field[1])
const last = (fields, number) => all(fields, number).at(-1)
const word = (fields, number) => text(last(fields, number) ?? new Uint8Array())
const whole = (fields, number) => Number(last(fields, number) ?? 0n)
const inside = (fields, number) => split(last(fields, number) ?? new Uint8Array())

/** Reads a FileDescriptorSet: messages and enums by full name. The numbers are those of descriptor.proto. */
function readSchema(bytes) {
  const types = new Map()
  const addEnum = (scope, fields) => {
    const values = all(fields, 2).map(split)
    types.set(`${scope}.${word(fields, 1)}`, new Map(values.map((value) => [whole(value, 2), word(value, 1)])))
  }
  const addMessage = (scope, fields) => {
    const full = `${scope}.${word(fields, 1)}`
    const options = inside(fields, 7)
    const stream = inside(options, STREAM_OPTION)
    const described = all(fields, 2)
      .map(split)
      .map((field) => ({
        number: whole(field, 3),
        name: word(field, 1),
        json: word(field, 10),
        type: whole(field, 5),
        of: word(field, 6),
        repeated: whole(field, 4) === 3,
        optional: last(field, 9) !== undefined || whole(field, 5) === MESSAGE,
        hex: whole(inside(inside(field, 8), JSON_OPTION), 2) === 1,
      }))
    types.set(full, {
      fields: new Map(described.map((field) => [field.number, field])),
      stream: stream.length ? { type: word(stream, 2), nulls: whole(stream, 5) === NULL_UNSET } : null,
      map: whole(options, 7) === 1,
    })
    for (const nested of all(fields, 3)) addMessage(full, split(nested))
    for (const nested of all(fields, 4)) addEnum(full, split(nested))
  }
  for (const file of all(split(bytes), 1).map(split)) {
    const scope = `.${word(file, 2)}`
    for (const message of all(file, 4)) addMessage(scope, split(message))
    for (const one of all(file, 5)) addEnum(scope, split(one))
  }
  return types
}

const hex = (bytes) => "0x" + Array.from(bytes, (byte) => byte.toString(16).padStart(2, "0")).join("")
const base64 = (bytes) => btoa(Array.from(bytes, (byte) => String.fromCharCode(byte)).join(""))

/** Turns messages into objects as JSON has them. */
class Reader {
  constructor(types, int64) {
    this.types = types
    this.int64 = int64
  }

  /** Reads a frame, or a message in it: fields by their names in the proto files, what is empty left out. */
  plain(name, bytes) {
    const keep = (value) => value !== ""
    return this.#message(name, bytes, { name: "name", big: Number, bytes: (value) => value, keep })
  }

  /** Reads the value of a stream: fields by their JSON names, what is not set as the stream says. */
  value(name, bytes) {
    const { nulls } = this.types.get(name).stream
    return this.#message(name, bytes, { name: "json", big: this.int64, nulls, keep: () => true })
  }

  #message(name, bytes, style) {
    const type = this.types.get(name)
    if (!type) throw new Error(`the schema has no ${name}`)
    const values = new Map()
    for (const [number, value] of split(bytes)) {
      const field = type.fields.get(number)
      if (!field) continue // of a later version
      const packed = field.repeated && value instanceof Uint8Array && ![STRING, BLOB, MESSAGE].includes(field.type)
      const found = (packed ? unpack(field.type, value) : [value]).map((one) => this.#scalar(field, one, style))
      values.set(number, field.repeated ? [...(values.get(number) ?? []), ...found] : found.at(-1))
    }
    const members = {}
    for (const field of type.fields.values()) {
      const value = values.get(field.number) ?? this.#unset(field, values, style)
      if (value === undefined || !style.keep(value)) continue
      members[field[style.name]] = this.types.get(field.of)?.map ? Object.fromEntries(value) : value
    }
    return type.map ? [String(members.key), members.value] : members
  }

  #unset(field, values, style) {
    if (values.has(field.number)) return null // NaN or infinite
    if (field.repeated) return []
    if (field.optional) return style.nulls ? null : undefined
    if (field.type === ENUM) return this.types.get(field.of).get(0)
    if (field.type === BLOB) return this.#scalar(field, new Uint8Array(), style)
    return BIG.has(field.type) ? style.big(0n) : (EMPTY[field.type] ?? 0)
  }

  #scalar(field, value, style) {
    if (field.type === MESSAGE) return this.#message(field.of, value, style)
    if (field.type === ENUM) return this.types.get(field.of).get(Number(value)) ?? Number(value)
    if (field.type === BLOB) return style.bytes ? style.bytes(value) : field.hex ? hex(value) : base64(value)
    const found = SCALARS[field.type](value)
    return BIG.has(field.type) ? style.big(found) : found
  }
}

/** Returns the bytes of a message whose members are called as in the proto files. */
function encode(types, name, members) {
  const out = []
  const fields = [...types.get(name).fields.values()]
  for (const [key, value] of Object.entries(members)) {
    const field = fields.find((one) => one.name === key)
    if (!field) throw new Error(`${key} cannot be asked for in protobuf`)
    for (const one of field.repeated ? value : [value]) {
      const wire = field.type === DOUBLE ? FIXED64 : [STRING, MESSAGE].includes(field.type) ? BYTES : VARINT
      writeVarint(out, (field.number << 3) | wire)
      if (wire === VARINT) writeVarint(out, one)
      else if (wire === FIXED64) out.push(...new Uint8Array(Float64Array.of(one).buffer))
      else {
        const bytes = field.type === STRING ? utf8(one) : encode(types, field.of, one)
        writeVarint(out, bytes.length)
        for (const byte of bytes) out.push(byte)
      }
    }
  }
  return Uint8Array.from(out)
}

// Requests

const REQUESTS = {
  "state_stream.subscribe": (params) => ({ subscribe: { subscriptions: params.map(named).map(startMembers) } }),
  "state_stream.unsubscribe": (params) => ({ unsubscribe: { subscriptions: params.map(named) } }),
  "state_stream.list": () => ({ list: {} }),
  "state_stream.history": ([params]) => ({ history: startMembers(params) }),
  "session.stats": () => ({ stats: {} }),
  "session.authenticate": ([params]) => ({ authenticate: params }),
}

const named = (one) => (typeof one === "string" ? { stream: one } : one)

/** Returns a subscription, or a page of history, as protobuf has it. */
function startMembers({ since, where, max_rate, fields, ...members }) {
  if (since?.height !== undefined) members.since_height = since.height
  else if (since?.time !== undefined) members.since_time_ms = since.time
  else if (since) members.since = since
  if (max_rate !== undefined) members.max_rate_hz = max_rate
  if (where) members.where = Object.entries(where).flatMap(([field, wanted]) => terms(field, wanted))
  return members
}

function terms(field, wanted) {
  if (wanted === null || typeof wanted !== "object") return [{ field, values: [scalar(wanted)] }]
  const values = (test, bound) => (test === "in" ? bound : [bound]).map(scalar)
  return Object.entries(wanted).map(([test, bound]) => ({ field, test, values: values(test, bound) }))
}

function scalar(value) {
  if (value === null) return {}
  if (typeof value === "number") return Number.isInteger(value) ? { integer: value } : { number: value }
  return typeof value === "boolean" ? { truth: value } : { text: value }
}

// The codec

export class ProtoCodec {
  subprotocol = "theblock.v1.proto"
  query = {}
  #types
  #reader
  #int64String

  /**
   * @param {Uint8Array} schema a FileDescriptorSet
   * @param {{int64?: "number" | "string"}} [options]
   */
  constructor(schema, { int64 } = {}) {
    this.#int64String = int64 === "string"
    this.#types = readSchema(schema)
    this.#reader = new Reader(this.#types, this.#int64String ? String : Number)
  }

  encode({ type, timestamp, id, method, params = [] }) {
    const request = REQUESTS[method]?.(Array.isArray(params) ? params : [params])
    const members = type === "ping" ? { ping: { timestamp } } : request
    if (!members) throw new Error(`${method} cannot be asked for in protobuf`)
    return encode(this.#types, `${SCOPE}ClientFrame`, id === undefined ? members : { id, ...members })
  }

  /** Reads a frame; throws if it is none. */
  decode(payload) {
    const [[number, bytes] = []] = split(new Uint8Array(payload))
    const { name, of } = this.#types.get(`${SCOPE}ServerFrame`).fields.get(number) ?? { name: "unknown" }
    if (name === "update") return this.#update(bytes)
    if (name === "snapshot") return this.#snapshot(split(bytes))
    if (name === "response") return this.#response(bytes)
    return { type: name, ...(of ? this.#reader.plain(of, bytes) : {}) }
  }

  #update(bytes) {
    const fields = split(bytes)
    const described = this.#types.get(`${SCOPE}Update`).fields
    const { stream, epoch, seq, time_ms, key, prev } = this.#reader.plain(`${SCOPE}Update`, bytes)
    const found = fields.find(([number]) => described.get(number)?.type === MESSAGE)
    if (!found) throw new Error(`the schema does not know the value of ${stream}`)
    const [number, value] = found
    const name = described.get(number).of
    const declared = this.#types.get(name).stream
    const custom = declared ? null : this.#reader.plain(name, value)
    return {
      type: custom ? custom.type : declared.type,
      stream,
      epoch: epoch ?? "",
      seq,
      time: time_ms,
      ...(key === undefined ? {} : { key, prev }),
      data: custom ? this.#custom(text(custom.json)) : this.#reader.value(name, value),
    }
  }

  /** Reads the JSON of a custom update; with int64 "string", integers beyond 2^53 - 1 become strings. */
  #custom(json) {
    if (!this.#int64String) return JSON.parse(json)
    const large = (value) => Number.isInteger(value) && !Number.isSafeInteger(value)
    const exact = (_name, value, context) => (large(value) && /^-?\d+$/.test(context?.source) ? context.source : value)
    return JSON.parse(json, exact)
  }

  #snapshot(fields) {
    const missed = last(fields, 2)
    const range = missed && this.#reader.plain(`${SCOPE}MissedRange`, missed)
    return { ...this.#update(last(fields, 1)), snapshot: true, ...(range ? { missed: range } : {}) }
  }

  #response(bytes) {
    const { id, error, ...outcome } = this.#reader.plain(`${SCOPE}ResponseFrame`, bytes)
    const { subscribed, unsubscribed, streams, history, stats } = outcome
    const answer = { jsonrpc: "2.0", id: id ?? null }
    if (error) {
      const { code, message, data_json } = error
      return { ...answer, error: { code, message, ...(data_json.length ? { data: JSON.parse(text(data_json)) } : {}) } }
    }
    if (history) return { ...answer, result: this.#page(bytes, history) }
    if (streams) return { ...answer, result: { streams: streams.streams.map(streamRow) } }
    if (unsubscribed) {
      const names = unsubscribed.subscriptions.map((one) => (one.key ? one : one.stream))
      return { ...answer, result: { unsubscribed: names } }
    }
    return { ...answer, result: subscribed ?? stats ?? {} }
  }

  /** Reads the updates of a page by themselves: their values are as their streams say. */
  #page(bytes, { next, missed }) {
    const page = split(last(split(bytes), 6))
    const updates = all(page, 1).map((update) => this.#update(update))
    return { updates, ...(next ? { next } : {}), ...(missed ? { missed } : {}) }
  }
}

function streamRow({ epoch = "", oldest, newest, delivery, ...row }) {
  return {
    ...row,
    delivery: delivery.replace("DELIVERY_", "").toLowerCase(),
    oldest: oldest ? { epoch, seq: oldest } : null,
    newest: { epoch, seq: newest },
  }
}
