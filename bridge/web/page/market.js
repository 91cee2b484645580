/** The order book and the trades. */
import { slowly } from "./painter.js"
import { Rows } from "./rows.js"
import { clock, decimal, given, money } from "./text.js"

const LEVELS = 8
const TRADES = 14
const OPEN = new Set(["open", "partial"])

const left = ({ qty, filled }) => (qty == null ? null : qty - (filled ?? 0))

/** Returns the open orders of a side, the best first. */
function side(orders, name) {
  const open = orders.filter((order) => order.side === name && OPEN.has(order.status) && order.price != null)
  const sign = name === "buy" ? -1 : 1
  return open.sort((one, other) => sign * (one.price - other.price)).slice(0, LEVELS)
}

/** Shows the market of a store, and goes on showing it. */
export function showMarket(store) {
  const book = new Rows(document.querySelector("#book tbody"), 4, LEVELS)
  const trades = new Rows(document.querySelector("#trades tbody"), 3, TRADES)
  const view = () => {
    const { orders = [], executions = [] } = store.get("trading") ?? {}
    const [bids, asks] = [side(orders, "buy"), side(orders, "sell")]
    const most = Math.max(1, ...[...bids, ...asks].map(left))
    const cells = (order) => (order ? [given(left(order), decimal), given(order.price, money)] : ["", ""])
    const texts = Array.from({ length: Math.max(bids.length, asks.length) }, (_, level) => [
      ...cells(bids[level]),
      ...cells(asks[level]).reverse(),
    ])
    book.show(texts, (row, level) => {
      const depth = (order) => `${order ? (50 * left(order)) / most : 0}%`
      row.style.setProperty("--bids", depth(bids[level]))
      row.style.setProperty("--asks", depth(asks[level]))
    })
    const newest = executions.slice(-TRADES).reverse()
    const time = (timestamp) => clock(Number(timestamp))
    trades.show(newest.map((one) => [given(one.price, money), given(one.qty, decimal), given(one.timestamp, time)]))
  }
  const show = slowly(view, 100)
  store.subscribe("trading", show)
  show()
}
