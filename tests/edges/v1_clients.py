"""Connections that speak v1, in text and in binary; what they get is told in the same words."""

import itertools
import json
from collections.abc import Callable
from typing import Any

from generated.theblock.state.v1 import frames_pb2
from tests.core.v1_clients import client_frame, told_as_json
from tests.edges.rawclient import BINARY, PING, PONG, TEXT, Answer, RawClient, frame
from tests.frames import asked

SUBPROTOCOLS = {"json": "theblock.v1.json", "proto": "theblock.v1.proto"}


class V1Connection:
    """A connection.

    Attributes:
        client: the socket below it.
        encoding: json or proto.
        answer: to the handshake.
        frames: everything that it got, as JSON tells it; `raw` are the payloads.
    """

    def __init__(self, client: RawClient, encoding: str, answer: Answer) -> None:
        self.client = client
        self.encoding = encoding
        self.answer = answer
        self.frames: list[Any] = []
        self.raw: list[bytes] = []
        self._ids = itertools.count(1)

    @classmethod
    async def connect(
        cls, port: int, encoding: str, path: str = "/ws", *, receive_buffer_bytes: int = 0, **headers: str
    ) -> "V1Connection":
        """Open a WebSocket, and leave the first frame to be read."""
        client = await RawClient.dial(port, receive_buffer_bytes=receive_buffer_bytes)
        answer = await client.shake(path, **{"Sec_WebSocket_Protocol": SUBPROTOCOLS[encoding]} | headers)
        assert answer.status == 101, answer
        return cls(client, encoding, answer)

    async def read(self) -> Any:
        """Read a frame that says something; pings are answered."""
        while True:
            opcode, payload = await self.client.read()
            if opcode != PING:
                break
            await self.client.send(frame(PONG, payload))
        assert opcode == (TEXT if self.encoding == "json" else BINARY), (opcode, payload)
        value = json.loads(payload) if opcode == TEXT else told_as_json(frames_pb2.ServerFrame.FromString(payload))
        self.raw.append(payload)
        self.frames.append(value)
        return value

    async def read_until(self, condition: Callable[[Any], object]) -> list[Any]:
        """Read frames up to one for which a condition holds; return them all."""
        frames = [await self.read()]
        while not condition(frames[-1]):
            frames.append(await self.read())
        return frames

    async def ask(self, method: str, *params: Any) -> int:
        """Send a request; return its id."""
        number = next(self._ids)
        if self.encoding == "json":
            await self.client.ask({"jsonrpc": "2.0", "method": method, "params": params, "id": number})
        else:
            message = client_frame(method, params)
            message.id = number
            await self._send(message)
        return number

    async def _send(self, message: frames_pb2.ClientFrame) -> None:
        asked(message.SerializeToString())
        await self.client.send(frame(BINARY, message.SerializeToString()))

    async def call(self, method: str, *params: Any) -> Any:
        """Ask, and read up to the response."""
        number = await self.ask(method, *params)
        return (await self.read_until(lambda got: "jsonrpc" in got and got["id"] == number))[-1]

    async def subscribe(self, *entries: Any) -> list[dict[str, Any]]:
        response = await self.call("state_stream.subscribe", *entries)
        assert "result" in response, response
        return response["result"]["subscriptions"]

    async def pong(self) -> None:
        """Ask for a pong and read it: there was nothing before it."""
        if self.encoding == "json":
            await self.client.pong()
            return
        message = frames_pb2.ClientFrame(ping=frames_pb2.PingFrame(timestamp=12.5))
        await self._send(message)
        answer = await self.read()
        assert (answer["type"], answer["timestamp"]) == ("pong", 12.5), answer

    async def read_close(self) -> tuple[int, dict[str, Any]]:
        return await self.client.read_close()

    def hang_up(self) -> None:
        self.client.hang_up()
