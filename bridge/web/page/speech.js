/** What screen readers are told unasked: seldom, and the newest only. */

const PAUSE_MS = 10_000

const place = document.querySelector("#said")
let next = null
let resting = false

/** Says a sentence, or the newest of several once the last one has been heard. */
export function say(sentence) {
  next = sentence
  if (resting) return
  place.textContent = next
  next = null
  resting = true
  setTimeout(() => {
    resting = false
    if (next !== null) say(next)
  }, PAUSE_MS)
}
