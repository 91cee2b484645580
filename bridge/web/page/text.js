/** Values as text. One that is not given is an en dash that says so: never 0. */

const numbers = (maximumFractionDigits, minimumFractionDigits = 0) => {
  const format = new Intl.NumberFormat("en", { maximumFractionDigits, minimumFractionDigits })
  return (value) => format.format(typeof value === "string" ? BigInt(value) : value)
}

export const whole = numbers(0)
export const decimal = numbers(2)
/** Writes a value that stands for several: as short as it can be told. */
export const brief = (value) => (Math.abs(value) < 100 ? decimal : whole)(value)
export const money = numbers(2, 2)
export const milliseconds = (value) => `${decimal(value)} ms`
export const energy = (value) => `${whole(value)} kWh`
export const clock = (time) => new Date(time).toTimeString().slice(0, 8)
export const short = (hash) => (hash.length > 18 ? `${hash.slice(0, 10)}…${hash.slice(-6)}` : hash)

/** Writes a time span. */
export function span(ms) {
  if (ms < 1000) return `${whole(Math.max(0, ms))} ms`
  if (ms < 10_000) return `${(ms / 1000).toFixed(1)} s`
  if (ms < 120_000) return `${whole(ms / 1000)} s`
  return ms < 7_200_000 ? `${whole(ms / 60_000)} min` : `${whole(ms / 3_600_000)} h`
}

/** Writes bytes a second. */
export function rate(bytes) {
  const power = Math.min(3, Math.max(0, Math.floor(Math.log10(Math.max(1, bytes)) / 3)))
  return `${decimal(bytes / 1000 ** power)} ${["", "k", "M", "G"][power]}B/s`
}

/** Returns a value as text; null where there is none. */
export const given = (value, words) =>
  value === undefined || value === null || Number.isNaN(value) ? null : words(value)

const written = new WeakMap()

/** Writes text into an element, if it is not there already; null: it is not given. */
export function write(element, text) {
  if (written.get(element) === text) return
  written.set(element, text)
  element.classList.toggle("missing", text === null)
  if (text === null) {
    element.title = "not given"
    element.innerHTML = '<span aria-hidden="true">–</span><span class="unseen">not given</span>'
  } else {
    element.removeAttribute("title")
    element.textContent = text
  }
}

/** Returns the elements of the page that show something, by name: those with an attribute `data-kind`. */
export const places = (kind) =>
  Object.fromEntries([...document.querySelectorAll(`[data-${kind}]`)].map((found) => [found.dataset[kind], found]))
