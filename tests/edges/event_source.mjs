// What a browser does, with the EventSource that is built into Node: prints each event that it gets as a line of JSON.
const [url, ...names] = process.argv.slice(2)
const source = new EventSource(url)
const print = ({ type, data, lastEventId }) => console.log(JSON.stringify({ type, data, lastEventId }))

source.onmessage = print
for (const name of names) source.addEventListener(name, print)
source.onerror = () => console.log(JSON.stringify({ type: "lost", closed: source.readyState === EventSource.CLOSED }))
setInterval(() => {}, 60_000) // Node's own timer, until it comes back, does not keep the process
