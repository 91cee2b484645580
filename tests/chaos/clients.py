"""Clients of every kind: WebSocket ones are visitors of verify; these here read a state service through gRPC."""

import asyncio
import random
from collections.abc import Callable

import grpc

from bridge.verify.oracle import Oracle
from bridge.verify.requests import SUBSCRIBE, request, to_text
from bridge.verify.service_frames import read_subscribe_response
from generated.theblock.state.v1 import service_pb2
from tests.chaos.publisher import CHANNEL

METHOD = "/theblock.state.v1.StateStreamService/Subscribe"


class GrpcClient:
    """Subscribes to streams through gRPC, and again whenever the call ended, behind its last positions.

    Attributes:
        name: of it.
        client: who is told what it gets.
        positions: up to where it has everything, by stream.
        connections: calls that it has had.
    """

    def __init__(
        self, name: str, streams: list[str], oracle: Oracle, address: Callable[[], str], chance: random.Random
    ) -> None:
        self.name = name
        self.client = oracle.client(name)
        self.positions: dict[str, tuple[str, int]] = {}
        self.connections = 0
        self._streams = streams
        self._address = address
        self._chance = chance
        self._call: grpc.aio.UnaryStreamCall | None = None

    async def run(self) -> None:
        """Live until cancelled."""
        while True:
            try:
                async with grpc.aio.insecure_channel(self._address(), options=CHANNEL) as channel:
                    await self._read(channel)
            except grpc.aio.AioRpcError:
                pass
            except asyncio.CancelledError:  # of the call, unless it is this task's own
                task = asyncio.current_task()
                if task is None or task.cancelling():
                    raise
            await asyncio.sleep(self._chance.uniform(0.05, 0.6))

    async def _read(self, channel: grpc.aio.Channel) -> None:
        self.client.connected()
        starts = []
        for stream in self._streams:
            entry: dict[str, object] = {"stream": stream}
            start = service_pb2.StreamStart(stream=stream)
            if stream in self.positions:
                start.since.epoch, start.since.seq = self.positions[stream]
                entry["since"] = {"epoch": start.since.epoch, "seq": start.since.seq}
            starts.append(start)
            ask = request(SUBSCRIBE, [entry]) | {"id": stream}
            self.client.sent(to_text(ask))
        subscribe = channel.unary_stream(METHOD, request_serializer=service_pb2.SubscribeRequest.SerializeToString)
        self._call = call = subscribe(service_pb2.SubscribeRequest(streams=starts))
        self.connections += 1
        while (raw := await call.read()) is not grpc.aio.EOF:
            for value in read_subscribe_response(raw):
                self.client.received_value(value)
                self._follow(value)

    def _follow(self, value: dict) -> None:
        if "data" in value:
            seq = value["missed"]["to"] if "missed" in value else value["seq"]
            if "missed" in value or not value.get("snapshot"):
                self.positions[value["stream"]] = value["epoch"], seq
        elif "result" in value:
            for row in value["result"]["subscriptions"]:
                self.positions[row["stream"]] = row["epoch"], row["seq"]
        else:
            for row in value["positions"]:
                self.positions[row["stream"]] = row["epoch"], row["seq"]

    def cut(self) -> None:
        """Lose the call."""
        if self._call is not None:
            self._call.cancel()

    def settled(self, head: Callable[[str], tuple[str | None, int]]) -> bool:
        """Whether it has everything."""
        return all(self.positions.get(stream) == head(stream) for stream in self._streams)
