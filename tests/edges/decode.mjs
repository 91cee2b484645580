// Decodes binary frames with nothing but /schema.binpb: node decode.mjs URL COUNT prints so many frames as JSON, one a line.
// 64-bit integers become strings, bytes hexadecimal; members are called as json_name says.
const [url, count] = [process.argv[2], Number(process.argv[3])]
const VARINT = 0, FIXED64 = 1, BYTES = 2, FIXED32 = 5
const REPEATED = 3
const [DOUBLE, FLOAT, INT64, UINT64, INT32, FIXED_64, FIXED_32, BOOL, STRING, , MESSAGE, BLOB, UINT32, ENUM, SFIXED32, SFIXED64, SINT32, SINT64] =
  Array.from({length: 18}, (_, index) => index + 1)

function varint(data, at) {
  let value = 0n
  for (let shift = 0n; ; shift += 7n) {
    const byte = data.getUint8(at++)
    value |= BigInt(byte & 0x7f) << shift
    if (byte < 0x80) return [value, at]
  }
}

/** Return the fields of a message as they are on the wire: [number, wire type, value]. */
function split(bytes) {
  const data = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength)
  const fields = []
  let at = 0
  while (at < bytes.length) {
    let key, value
    ;[key, at] = varint(data, at)
    const wire = Number(key & 7n)
    if (wire === VARINT) [value, at] = varint(data, at)
    else if (wire === BYTES) {
      let length
      ;[length, at] = varint(data, at)
      value = bytes.subarray(at, (at += Number(length)))
      if (at > bytes.length) throw new Error("a field is cut off")
    } else if (wire === FIXED64 || wire === FIXED32) {
      const size = wire === FIXED64 ? 8 : 4
      value = new DataView(bytes.buffer, bytes.byteOffset + at, size)
      at += size
    } else throw new Error(`wire type ${wire}`)
    fields.push([Number(key >> 3n), wire, value])
  }
  return fields
}

const text = (bytes) => new TextDecoder("utf-8", {fatal: true}).decode(bytes)
const all = (fields, number) => fields.filter((field) => field[0] === number).map((field) => field[2])
const one = (fields, number) => all(fields, number).at(-1)
const name = (fields, number) => (one(fields, number) === undefined ? "" : text(one(fields, number)))

/** Return the messages and enums of a FileDescriptorSet by full name; the numbers are those of descriptor.proto. */
function readSchema(bytes) {
  const types = new Map()
  const addEnum = (scope, fields) => {
    const values = all(fields, 2).map(split)
    types.set(`${scope}.${name(fields, 1)}`, new Map(values.map((value) => [Number(one(value, 2) ?? 0n), name(value, 1)])))
  }
  const addMessage = (scope, fields) => {
    const full = `${scope}.${name(fields, 1)}`
    const described = all(fields, 2).map(split).map((field) => ({
      number: Number(one(field, 3)), repeated: Number(one(field, 4)) === REPEATED, type: Number(one(field, 5)),
      typeName: name(field, 6), json: name(field, 10),
    }))
    types.set(full, new Map(described.map((field) => [field.number, field])))
    for (const nested of all(fields, 3)) addMessage(full, split(nested))
    for (const nested of all(fields, 4)) addEnum(full, split(nested))
  }
  for (const file of all(split(bytes), 1).map(split)) {
    const scope = name(file, 2) ? `.${name(file, 2)}` : ""
    for (const message of all(file, 4)) addMessage(scope, split(message))
    for (const one of all(file, 5)) addEnum(scope, split(one))
  }
  return types
}

function scalar(types, field, value) {
  const zigzag = (n) => (n >> 1n) ^ -(n & 1n)
  switch (field.type) {
    case MESSAGE: return decode(types, field.typeName, value)
    case STRING: return text(value)
    case BLOB: return Buffer.from(value).toString("hex")
    case BOOL: return value !== 0n
    case ENUM: return types.get(field.typeName).get(Number(value)) ?? Number(value)
    case DOUBLE: return value.getFloat64(0, true)
    case FLOAT: return value.getFloat32(0, true)
    case FIXED_32: return value.getUint32(0, true)
    case SFIXED32: return value.getInt32(0, true)
    case FIXED_64: return String(value.getBigUint64(0, true))
    case SFIXED64: return String(value.getBigInt64(0, true))
    case UINT32: return Number(value)
    case INT32: return Number(BigInt.asIntN(32, value))
    case SINT32: return Number(zigzag(value))
    case UINT64: return String(value)
    case INT64: return String(BigInt.asIntN(64, value))
    case SINT64: return String(zigzag(value))
    default: throw new Error(`type ${field.type}`)
  }
}

function decode(types, typeName, bytes) {
  const schema = types.get(typeName)
  if (schema === undefined) throw new Error(`the schema does not have ${typeName}`)
  const message = {}
  for (const [number, , value] of split(bytes)) {
    const field = schema.get(number)
    if (field === undefined) throw new Error(`${typeName} has no field ${number}`)
    const found = scalar(types, field, value)
    if (field.repeated) (message[field.json] ??= []).push(found)
    else message[field.json] = found
  }
  return message
}

const types = readSchema(new Uint8Array(await (await fetch(`${url}/schema.binpb`)).arrayBuffer()))
const socket = new WebSocket(`${url.replace("http", "ws")}/ws?subscribe=block_updates,metrics`, "theblock.v1.proto")
socket.binaryType = "arraybuffer"
let left = count
socket.onmessage = ({data}) => {
  if (left-- <= 0) return
  console.log(JSON.stringify(decode(types, ".theblock.state.v1.ServerFrame", new Uint8Array(data))))
  if (left === 0) socket.close(4321)
}
socket.onerror = ({message}) => console.error(message)
