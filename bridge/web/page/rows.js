/** The rows of a table: made once, written again and again. */
import { write } from "./text.js"

export class Rows {
  #rows

  constructor(body, columns, count) {
    this.#rows = Array.from({ length: count }, () => {
      const row = body.insertRow()
      row.hidden = true
      return { row, cells: Array.from({ length: columns }, () => row.insertCell()) }
    })
  }

  /** Shows texts by row and column; `mark(row, index)` may change a row's looks. */
  show(texts, mark = () => {}) {
    this.#rows.forEach(({ row, cells }, index) => {
      const shown = index < texts.length
      if (row.hidden === shown) row.hidden = !shown
      if (!shown) return
      cells.forEach((cell, column) => write(cell, texts[index][column]))
      mark(row, index)
    })
  }
}
