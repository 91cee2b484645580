/** Filters as the sidecar has them, for what comes without it: over Server-Sent Events and by polling. */

const comparable = (found, bound) => typeof found === typeof bound && ["number", "string"].includes(typeof found)

const TESTS = {
  in: (found, wanted) => wanted.includes(found),
  prefix: (found, wanted) => typeof found === "string" && found.startsWith(wanted),
  gt: (found, bound) => comparable(found, bound) && found > bound,
  gte: (found, bound) => comparable(found, bound) && found >= bound,
  lt: (found, bound) => comparable(found, bound) && found < bound,
  lte: (found, bound) => comparable(found, bound) && found <= bound,
}

/** Whether a filter selects data; a field that is not there is null. */
export function matches(where, data) {
  return Object.entries(where).every(([field, wanted]) => {
    const found = data[field] ?? null
    if (wanted === null || typeof wanted !== "object") return found === wanted
    return Object.entries(wanted).every(([test, bound]) => TESTS[test]?.(found, bound) ?? false)
  })
}
