import assert from "node:assert/strict"
import { readFileSync } from "node:fs"
import { describe, test } from "node:test"
import * as client from "../../bridge/web/client/theblock.js"
import { FakeStorage, make } from "./fakes.js"

const text = readFileSync(new URL("../../bridge/web/client/theblock.d.ts", import.meta.url), "utf8")

/** Returns the names of the members that the types give a class. */
function members(name) {
  const [, body] = new RegExp(`export class ${name} \\{\n(.*?)\n\\}`, "s").exec(text)
  const found = [...body.matchAll(/^ {2}(?:readonly )?(\w+)(?:<[^>]*(?:>[^>(]*)?>)?[(:]/gm)].map(([, member]) => member)
  return new Set(found.filter((member) => member !== "constructor"))
}

/** Returns the names of the public members of an object. */
function own(object) {
  const methods = Object.getOwnPropertyNames(Object.getPrototypeOf(object))
  return new Set([...Object.keys(object), ...methods].filter((member) => member !== "constructor"))
}

describe("the types", () => {
  test("export what the module exports", () => {
    const exported = [...text.matchAll(/^export (?:class|function|const) (\w+)/gm)].map(([, name]) => name)
    assert.deepEqual(exported.sort(), Object.keys(client).sort())
  })

  test("give the classes the members that they have", () => {
    assert.deepEqual(members("BlockWebSocket"), own(make().ws))
    assert.deepEqual(members("Store"), own(new client.Store()))
    assert.deepEqual(members("Features"), own(new client.Features({ storage: new FakeStorage() })))
  })

  test("name the metrics that are counted", () => {
    const [, body] = /export interface Metrics \{\n(.*?)\n\}/s.exec(text)
    const named = [...body.matchAll(/^ {2}(\w+):/gm)].map(([, name]) => name)
    assert.deepEqual(named, Object.keys(make().ws.getMetrics()))
  })
})
