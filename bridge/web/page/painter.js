/** Redraws: however much comes, each view is drawn at most once an animation frame. */

const wanted = new Set()

/** Has a view drawn in the next frame. */
export function redraw(view) {
  if (wanted.size === 0) requestAnimationFrame(drawAll)
  wanted.add(view)
}

function drawAll() {
  const views = [...wanted]
  wanted.clear()
  for (const view of views) {
    try {
      view()
    } catch (error) {
      reportError(error) // one view that fails keeps no other from being drawn
    }
  }
}

/** Returns what has a view drawn, at most once in so many milliseconds: nobody reads a chart sixty times a second. */
export function slowly(view, pause = 250) {
  let last = -Infinity
  let waiting = false
  const draw = () => {
    waiting = false
    last = performance.now()
    view()
  }
  return () => {
    if (waiting) return
    waiting = true
    setTimeout(() => redraw(draw), Math.max(0, last + pause - performance.now()))
  }
}
