"""Listening: who may share an address, and what becomes of connections that nobody has accepted yet."""

import asyncio
import socket
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

import pytest

from bridge.app.listening import ACCEPTS, Listener
from bridge.core.errors import StartError
from bridge.settings import Address
from tests.edges.rig import within

ANY = Address("127.0.0.1", 0)


class Greeter(asyncio.Protocol):
    """Says its name and hangs up."""

    def __init__(self, name: bytes, met: list[bytes]) -> None:
        self._name, self._met = name, met

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._met.append(self._name)
        transport.write(self._name)
        transport.close()


class Process:
    """What accepts connections in place of a process.

    Attributes:
        met: its name, once for each connection.
    """

    def __init__(self, name: bytes, address: Address = ANY, **options: object) -> None:
        self.met: list[bytes] = []
        self.listener = Listener(lambda: Greeter(name, self.met), address, **options)

    @property
    def address(self) -> Address:
        return Address.parse(self.listener.url.removeprefix("http://"))


@asynccontextmanager
async def listening(name: bytes, address: Address = ANY, **options: object) -> AsyncIterator[Process]:
    process = Process(name, address, **options)
    await process.listener.start()
    try:
        yield process
    finally:
        await process.listener.stop()


@pytest.fixture
def connect() -> Callable[[Address], socket.socket]:
    """Return a function that connects without a turn of the loop: nobody can have accepted it."""
    clients = []

    def open_one(address: Address) -> socket.socket:
        clients.append(socket.create_connection((address.host, address.port), timeout=5))
        clients[-1].setblocking(False)
        return clients[-1]

    yield open_one
    for client in clients:
        client.close()


async def hears(client: socket.socket) -> bytes:
    return await within(asyncio.get_running_loop().sock_recv(client, 100))


@pytest.mark.parametrize("shared", [False, True])
@pytest.mark.parametrize("shares", [False, True])
async def test_an_address_is_shared_by_those_only_who_both_allow_it(shared, shares):
    async with listening(b"one", reuse_port=shared) as one:
        two = Process(b"two", one.address, reuse_port=shares)
        if shared and shares:
            await two.listener.start()
            assert two.address == one.address
            await two.listener.stop()
            return
        with pytest.raises(StartError) as raised:
            await two.listener.start()
        assert str(raised.value).startswith(f"{one.address} is taken: ")


async def test_an_address_that_is_shared_is_told_as_one_that_cannot_be_listened_on():
    with pytest.raises(StartError, match="^cannot listen on 192.0.2.1:5000: Cannot assign requested address$"):
        await Process(b"", Address("192.0.2.1", 5000), reuse_port=True).listener.start()


@pytest.mark.parametrize("reuse_port", [False, True])
async def test_what_nobody_has_accepted_yet_is_not_reset_at_the_end(connect, reuse_port):
    async with listening(b"one", reuse_port=reuse_port) as one:
        clients = [connect(one.address) for _ in range(3 * ACCEPTS)]
        await one.listener.stop()
        assert [await hears(client) for client in clients] == [b"one"] * len(clients)
        with pytest.raises(ConnectionRefusedError):
            connect(Address("127.0.0.1", clients[0].getpeername()[1]))


async def test_a_successor_gets_everything_that_comes_later(connect):
    async with listening(b"one", reuse_port=True) as one:
        address = one.address
        async with listening(b"two", address, reuse_port=True) as two:
            for _ in range(50):  # the kernel shares them out
                await hears(connect(address))
            assert {*one.met, *two.met} == {b"one", b"two"}
            before = [connect(address) for _ in range(50)]
            await one.listener.stop()
            after = [connect(address) for _ in range(50)]
            assert {await hears(client) for client in before} == {b"one", b"two"}
            assert {await hears(client) for client in after} == {b"two"}


async def test_connections_stay_in_a_socket_that_was_passed(connect):
    with socket.create_server(("127.0.0.1", 0)) as kept:  # as the supervisor keeps it
        async with listening(b"one", passed=kept.dup()) as one:
            assert await hears(connect(one.address)) == b"one"
            before = connect(one.address)
            await one.listener.stop()
            after = connect(Address(*kept.getsockname()))
        async with listening(b"two", passed=kept.dup()):
            assert await hears(before) == await hears(after) == b"two"
        assert one.met == [b"one"]


async def test_many_that_come_at_once_leave_turns_for_others(connect):
    async with listening(b"one") as one:
        clients = [connect(one.address) for _ in range(5 * ACCEPTS)]
        most = seen = 0
        while len(one.met) < len(clients):
            await asyncio.sleep(0)
            most, seen = max(most, len(one.met) - seen), len(one.met)
        assert 0 < most <= ACCEPTS


@pytest.mark.parametrize("host", ["127.0.0.1", "localhost", "::1"])
async def test_the_url_has_the_port_that_the_system_chose(host):
    try:
        async with listening(b"one", Address(host, 0)) as one:
            address = one.address
            assert (address.host, address.port > 0) == (host, True)
            assert one.listener.shared is False
    except StartError:
        assert host == "::1", "only that may be missing on a machine"


async def test_the_url_of_a_socket_that_was_passed(tmp_path):
    with socket.create_server(("127.0.0.1", 0)) as kept:
        async with listening(b"one", Address("192.0.2.1", 1), passed=kept.dup()) as one:
            assert one.listener.url == f"http://127.0.0.1:{kept.getsockname()[1]}"
            assert one.listener.shared is True
    with socket.socket(socket.AF_UNIX) as kept:
        kept.bind(f"{tmp_path}/s")
        kept.listen()
        async with listening(b"one", passed=kept.dup()) as one:
            assert one.listener.url == f"http+unix:{tmp_path}/s"


async def test_it_may_be_stopped_twice_and_without_having_been_started(connect):
    process = Process(b"one")
    await process.listener.stop()
    await process.listener.start()
    await process.listener.stop()
    await process.listener.stop()
