/** theblock.v1.json: JSON in text frames. */

export class JsonCodec {
  subprotocol = "theblock.v1.json"

  /** @param {{int64?: "number" | "string"}} [options] */
  constructor({ int64 } = {}) {
    this.query = int64 === "string" ? { int64 } : {}
  }

  encode(message) {
    return JSON.stringify(message.method === undefined ? message : { jsonrpc: "2.0", ...message })
  }

  /** Reads a frame; throws if it is none. */
  decode(payload) {
    const frame = typeof payload === "string" ? JSON.parse(payload) : null
    if (frame === null || typeof frame !== "object") throw new Error("it is not a JSON object in a text frame")
    return frame
  }
}
