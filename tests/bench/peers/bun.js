// Bun: its own publish to a topic. Arguments: WebSocket port, port of the lines.
const server = Bun.serve({
  port: Number(process.argv[2]),
  hostname: "127.0.0.1",
  fetch: (request, bun) => (bun.upgrade(request) ? undefined : new Response("", { status: 400 })),
  websocket: { perMessageDeflate: false, idleTimeout: 0, open: (socket) => socket.subscribe("all"), message: () => {} },
});
let rest = "";
Bun.listen({
  hostname: "127.0.0.1",
  port: Number(process.argv[3]),
  socket: {
    data(_socket, chunk) {
      const lines = (rest + chunk.toString()).split("\n");
      rest = lines.pop();
      for (const line of lines) server.publish("all", line);
    },
  },
});
console.log("ready");
