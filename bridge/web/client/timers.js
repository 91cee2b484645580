/** Timers by name: setting one again replaces it, and clearing all leaves none behind. */

/** The clock of the browser; tests have one of their own. */
export const CLOCK = {
  now: () => Date.now(),
  setTimeout: (call, ms) => setTimeout(call, ms),
  clearTimeout: (timer) => clearTimeout(timer),
}

export class Timers {
  #clock
  #timers = new Map()

  constructor(clock) {
    this.#clock = clock
  }

  set(name, ms, call) {
    this.clear(name)
    const run = () => {
      this.#timers.delete(name)
      call()
    }
    this.#timers.set(name, this.#clock.setTimeout(run, ms))
  }

  clear(...names) {
    for (const name of names) {
      this.#clock.clearTimeout(this.#timers.get(name))
      this.#timers.delete(name)
    }
  }

  clearAll() {
    this.clear(...this.#timers.keys())
  }
}
