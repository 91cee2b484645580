"""The settings of compression reach the connections of a process."""

from typing import Any

import pytest

from bridge.app.process import Process
from bridge.settings import Address, JournalSettings, SidecarSettings, StateSettings, WebSocketSettings
from tests.edges.rawclient import RawClient


@pytest.mark.parametrize(
    ("settings", "agreed", "deflated"),
    [({}, True, 0), ({"deflate": False}, False, 0), ({"deflate_minimum_bytes": 1, "deflate_level": 9}, True, 3)],
    ids=str,
)
async def test_blocks_are_deflated_as_the_settings_say(settings: dict[str, Any], agreed: bool, deflated: int):
    state = StateSettings(
        source="simulated", grpc_listen=None, blocks_per_second=50, journal=JournalSettings(data_dir="off")
    )
    listen, websocket = Address("127.0.0.1", 0), WebSocketSettings(**settings)
    process = Process(state, SidecarSettings(listen=listen, drain_seconds=0, websocket=websocket))
    try:
        addresses = await process.start()
        client = await RawClient.dial(int(addresses["http"].rpartition(":")[2]))
        answer = await client.shake("/ws?subscribe=block_updates", Sec_WebSocket_Extensions="permessage-deflate")
        assert ("sec-websocket-extensions" in answer.headers) is agreed
        for _ in range(3):
            assert (await client.read_json())["type"] == "block_update"
        assert client.deflated == deflated
        client.hang_up()
    finally:
        await process.stop()
