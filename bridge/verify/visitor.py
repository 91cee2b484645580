"""A client of verify: it subscribes, is cut off whenever somebody likes, and comes back behind its last position."""

import asyncio
import json
import random
from collections.abc import Callable
from dataclasses import dataclass
from enum import StrEnum
from itertools import count
from typing import Any, Final

from bridge.verify.frames import Frame
from bridge.verify.jsonvalues import Data
from bridge.verify.oracle import Oracle
from bridge.verify.requests import STATS, SUBSCRIBE, request, to_binary, to_text
from bridge.verify.subscription import Name
from bridge.verify.websocket import BINARY, TEXT, NotConnectedError, Target, WebSocket, connect

ANSWER_SECONDS: Final = 20.0
"""How long an answer is waited for, before the connection is given up."""

PAUSE_SECONDS: Final = 0.05, 0.6
"""How long it stays away after a connection ended: at least, at most."""

UNAVAILABLE: Final = -32010
"""Error of a position that cannot be decided on now: it is kept, and asked about again."""


class Kind(StrEnum):
    """How a client speaks."""

    CLASSIC = "classic"
    JSON = "v1 json"
    PROTO = "v1 proto"


SUBPROTOCOLS: Final = {Kind.CLASSIC: "", Kind.JSON: "theblock.v1.json", Kind.PROTO: "theblock.v1.proto"}


@dataclass(frozen=True)
class Wish:
    """A subscription that a client wants."""

    stream: str
    key: str | None = None
    where: Data | None = None
    fields: tuple[str, ...] | None = None
    max_rate: float | None = None

    @property
    def name(self) -> Name:
        """Stream and key."""
        return self.stream, self.key

    def entry(self, position: tuple[str, int] | None) -> Data:
        """Return what a request has for it."""
        members: Data = {"stream": self.stream, "key": self.key, "where": self.where, "max_rate": self.max_rate}
        members["fields"] = None if self.fields is None else list(self.fields)
        members["since"] = None if position is None else {"epoch": position[0], "seq": position[1]}
        return {name: value for name, value in members.items() if value is not None}


class Visitor:
    """One client.

    Attributes:
        name: of it.
        kind: how it speaks.
        wishes: its subscriptions.
        client: who is told what it says and gets.
        positions: up to where it has everything, by subscription.
        connections: how many it has had.
        cut_off: how many of these ended without its own good-bye.
        refused: what was refused that never should be.
        asleep: whether it reads nothing for now.
        codes: close codes that it was sent, and how often.
        books: the answer to the last question for them, once it has come.
    """

    def __init__(
        self,
        name: str,
        kind: Kind,
        wishes: list[Wish],
        oracle: Oracle,
        target: Callable[[], Target],
        *,
        chance: random.Random,
        int64_string: bool = False,
        receive_buffer_bytes: int = 0,
    ) -> None:
        """Make a client; `run` has it live.

        Args:
            name: of it.
            kind: how it speaks.
            wishes: its subscriptions.
            oracle: judges it.
            target: says where to connect, each time.
            chance: of its pauses.
            int64_string: whether it asks for 64-bit integers as strings.
            receive_buffer_bytes: of the kernel; 0: as it comes.
        """
        self.name, self.kind, self.wishes = name, kind, wishes
        self.client = oracle.client(name, int64_string=int64_string, announced=kind is not Kind.CLASSIC)
        self.positions: dict[Name, tuple[str, int]] = {}
        self.connections = self.cut_off = 0
        self.refused: list[str] = []
        self.codes: dict[int, int] = {}
        self.books: list[Data] | None = None
        self._target = target
        self._chance = chance
        self._query = "int64=string" if int64_string else ""
        self._receive_buffer_bytes = receive_buffer_bytes
        self._names: dict[str, list[Wish]] = {}
        for wish in wishes:
            self._names.setdefault(wish.stream, []).append(wish)
        self._socket: WebSocket | None = None
        self._last: WebSocket | None = None
        self._numbers = count(1)
        self._subscribing = self._asking = 0  # ids of requests without an answer
        self._retry: asyncio.TimerHandle | None = None
        self._door = 0
        self.asleep = False

    @property
    def door(self) -> int | None:
        """The port that it is connected to."""
        return self._door if self._socket is not None else None

    @property
    def connected(self) -> bool:
        """Whether it has a connection."""
        return self._socket is not None

    # ------------------------------------------------------------------ its life

    async def run(self) -> None:
        """Connect, and again whenever the connection ended. Runs until cancelled."""
        try:
            while True:
                try:
                    await self._visit()
                except NotConnectedError as error:
                    if error.status not in (0, 503):
                        self._refuse(str(error))
                await asyncio.sleep(self._chance.uniform(*PAUSE_SECONDS))
        finally:
            if self._last is not None:
                await self._last.drop()

    async def _visit(self) -> None:
        """Connect, subscribe, and take what comes until the connection ends."""
        target = self._target()
        self._door = target.port
        if self._query:
            joint = "&" if "?" in target.path else "?"
            target = target._replace(path=f"{target.path}{joint}{self._query}")
        self.client.connected()
        self._subscribing = self._asking = 0
        self.books = None
        socket = await connect(
            target, self._take, SUBPROTOCOLS[self.kind], receive_buffer_bytes=self._receive_buffer_bytes
        )
        self._socket = self._last = socket
        self.connections += 1
        if self.asleep:
            socket.pause()
        self._subscribe()
        try:
            ended = await socket.ended
        finally:
            self._socket = None
            if self._retry is not None:
                self._retry.cancel()
        self.cut_off += ended.code is None
        if ended.code is not None:
            self.codes[ended.code] = self.codes.get(ended.code, 0) + 1
        if ended.fault:
            self._refuse(f"the server broke the WebSocket protocol: {ended.fault}")

    def cut(self) -> None:
        """Lose the connection, without a word."""
        if self._socket is not None:
            self._socket.abort()

    def close(self) -> None:
        """End the connection with a good-bye."""
        if self._socket is not None:
            self._socket.close()

    def sleep(self) -> None:
        """Read nothing until `wake`."""
        self.asleep = True
        if self._socket is not None:
            self._socket.pause()

    def wake(self) -> None:
        """Read on."""
        self.asleep = False
        if self._socket is not None:
            self._socket.resume()

    # ------------------------------------------------------------------ out

    def _send(self, value: Data) -> None:
        assert self._socket is not None
        text = to_text(value)
        self.client.sent(text)
        if self.kind is Kind.PROTO:
            self._socket.send(BINARY, to_binary(value))
        else:
            self._socket.send(TEXT, text)

    def _subscribe(self) -> None:
        if self._socket is None:
            return
        self._subscribing = next(self._numbers)
        entries = [wish.entry(self.positions.get(wish.name)) for wish in self.wishes]
        self._send(request(SUBSCRIBE, entries, self._subscribing, plain=self.kind is Kind.CLASSIC))
        if self.kind is not Kind.CLASSIC:
            self._watch(self._subscribing, "to its subscription")

    def ask_books(self) -> None:
        """Ask for the books, unless there is a question without an answer already."""
        if self._socket is None or self._asking:
            return
        self.books = None
        self._asking = next(self._numbers)
        self._send(request(STATS, number=self._asking))

    def _watch(self, number: int, what: str) -> None:
        """Give the connection up if a request is not answered in time, though the client reads."""
        socket = self._socket

        def check() -> None:
            if self._subscribing == number and self._socket is socket and not self.asleep:
                self.cut()

        self._retry = asyncio.get_running_loop().call_later(ANSWER_SECONDS, check)

    # ------------------------------------------------------------------ in

    def _take(self, opcode: int, payload: bytes) -> None:
        if (opcode == BINARY) is not (self.kind is Kind.PROTO):
            self._refuse("a frame is binary where it must be text, or text where it must be binary")
            return
        frame = self.client.received_binary(payload) if opcode == BINARY else self.client.received(payload)
        match frame.kind:
            case "update":
                self._follow(frame.message)
            case "progress":
                for row in frame.message["positions"]:
                    self._move(row["stream"], None, row["epoch"], row["seq"])
            case "answer" | "error":
                self._answered(frame)

    def _follow(self, update: Data) -> None:
        """Take the position that an update gives: a snapshot that stands for nothing gives one in a new epoch only."""
        missed = update.get("missed")
        seq = missed["to"] if missed else update["seq"]
        self._move(
            update["stream"], update.get("key"), update["epoch"], seq, newer=not update.get("snapshot") or missed
        )

    def _move(self, stream: str, key: str | None, epoch: str, seq: int, *, newer: object = True) -> None:
        for wish in self._names.get(stream, ()):
            if wish.key is None or key is None or wish.key == key:
                known = self.positions.get(wish.name)
                if known is None or known[0] != epoch or (newer and known[1] < seq):
                    self.positions[wish.name] = epoch, seq

    def _answered(self, frame: Frame) -> None:
        answer = frame.message
        number = answer.get("id")
        if "error" in answer:
            self._fail(number, answer["error"])
            return
        rows = answer["result"].get("subscriptions", [])
        if number == self._asking:
            self._asking, self.books = 0, rows
        elif number == self._subscribing:
            self._subscribing = 0
            for row in rows:
                self.positions[row["stream"], row.get("key")] = row["epoch"], row["seq"]

    def _fail(self, number: object, error: Any) -> None:
        if number == self._subscribing and error.get("code") == UNAVAILABLE:
            after_ms = (error.get("data") or {}).get("retry_after_ms", 1000)
            self._retry = asyncio.get_running_loop().call_later(min(after_ms, 5000) / 1000, self._subscribe)
        else:
            self._refuse(json.dumps(error))

    def _refuse(self, sentence: str) -> None:
        if len(self.refused) < 100:
            self.refused.append(sentence)
        self.cut()

    # ------------------------------------------------------------------ the end

    def settled(self, heads: Callable[[str], tuple[str | None, int]]) -> bool:
        """Whether its books say that it has everything.

        Args:
            heads: returns the epoch and the seq of a stream's newest update.
        """
        rows = {(row["stream"], row.get("key")): row for row in self.books or ()}
        for wish in self.wishes:
            row = rows.get(wish.name)
            epoch, seq = heads(wish.stream)
            if row is None or row["pending"]:
                return False
            if epoch is not None and (row["epoch"], row["head"]) != (epoch, seq):
                return False
        return True
