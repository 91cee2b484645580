// What a browser does, with the WebSocket that is built into Node: prints what it got as one line of JSON.
const socket = new WebSocket(process.argv[2])
const got = {types: [], heights: [], extensions: null, pong: null}

socket.onopen = () => {
  got.extensions = socket.extensions
  socket.send(JSON.stringify({type: "ping", timestamp: 1707770400123}))  // first: so its pong comes before any update
  for (const stream of ["block_updates", "metrics", "network"])
    socket.send(JSON.stringify({method: "state_stream.subscribe", params: [stream], id: 1}))
}
socket.onmessage = ({data}) => {
  const frame = JSON.parse(data)
  got.types.push(frame.type)
  if (frame.type === "pong") got.pong = frame.timestamp
  if (frame.type === "block_update") got.heights.push(frame.data.height)
  if (got.heights.length === 100) socket.close(4321, "enough")
}
socket.onclose = ({code, reason, wasClean}) => console.log(JSON.stringify({...got, code, reason, wasClean}))
socket.onerror = ({message}) => console.error(message)
