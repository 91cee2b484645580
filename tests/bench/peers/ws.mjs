// ws on Node.js: `send` for each client. Arguments: WebSocket port, port of the lines.
import { createServer } from "node:net";
import { createInterface } from "node:readline";
import { WebSocketServer } from "ws";

const server = new WebSocketServer({ port: Number(process.argv[2]), host: "127.0.0.1", perMessageDeflate: false, backlog: 4096 });
createServer((socket) => {
  createInterface({ input: socket }).on("line", (line) => {
    const data = Buffer.from(line);
    for (const client of server.clients) client.send(data, { binary: false });
  });
}).listen(Number(process.argv[3]), "127.0.0.1", () => console.log("ready"));
