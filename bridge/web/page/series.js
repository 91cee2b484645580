/** Points over time in columns, as uPlot takes them: seconds, then each line. Bounded however much comes. */

const STEP = 0.25 // seconds: points that are nearer are one
const LENGTH = 600

export class Series {
  constructor(lines) {
    this.data = Array.from({ length: lines + 1 }, () => [])
  }

  /** Adds a point: its time, and a value or null for each line. */
  add(point) {
    const [times] = this.data
    const near = point[0] - times.at(-1) < STEP
    if (near) point[0] = times.at(-1)
    point.forEach((value, index) => {
      const column = this.data[index]
      if (near) column.pop()
      column.push(value)
      if (column.length > LENGTH) column.shift()
    })
  }

  /** Puts older points before those that have come already. */
  seed(points) {
    const first = this.data[0][0] ?? Infinity
    const older = new Series(this.data.length - 1)
    for (const point of points) if (point[0] < first) older.add(point)
    this.data = this.data.map((column, index) => [...older.data[index], ...column].slice(-LENGTH))
  }
}
