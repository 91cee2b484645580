/** The watch on one account, which the address of the page remembers. */
import { redraw } from "./painter.js"
import { places, given, whole, write } from "./text.js"

const SUGGESTED = 30

/** Watches the account that the form names; `base` is where the sidecar's HTTP is. */
export function watchAccounts(ws, base) {
  const form = document.querySelector("#account form")
  const note = document.querySelector("#watched")
  const shown = places("account")
  let address = null
  let value = {}
  let change = null

  const view = () => {
    for (const name of ["balance", "nonce", "height"]) write(shown[name], given(value[name], whole))
    write(shown.change, given(change, (amount) => `${amount > 0n ? "+" : ""}${whole(amount)}`))
  }

  function watch(wanted) {
    if (address) ws.unsubscribe("account", { key: address })
    address = wanted
    value = {}
    change = null
    ws.subscribe("account", { key: address })
    note.textContent = `${address} is watched.`
    redraw(view)
  }

  ws.on("account_update", (data, { key }) => {
    if (key !== address) return
    if (value.balance !== undefined && data.balance !== undefined && data.balance !== value.balance)
      change = BigInt(data.balance) - BigInt(value.balance)
    value = data
    redraw(view)
  })
  ws.on("ws:refused", ({ stream, error }) => {
    if (stream === "account") note.textContent = `${address} cannot be watched: ${error.message}`
  })
  form.addEventListener("submit", (event) => {
    event.preventDefault()
    watch(form.address.value)
    const url = new URL(location.href)
    url.searchParams.set("account", address)
    history.replaceState(null, "", url)
  })
  form.address.addEventListener("focus", suggest, { once: true })

  async function suggest() {
    const response = await fetch(`${base}/state/account`).catch(() => null)
    const { updates = [] } = response?.ok ? await response.json() : {}
    const options = updates.slice(-SUGGESTED).map(({ key }) => new Option(key, key))
    document.querySelector("#addresses").replaceChildren(...options)
  }

  const asked = new URLSearchParams(location.search).get("account")
  if (asked) {
    form.address.value = asked
    if (form.address.checkValidity()) watch(asked)
  }
  redraw(view)
}
