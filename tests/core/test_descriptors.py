"""The proto files as a descriptor set: whoever has only that reads everything we send."""

from google.protobuf import descriptor_pool, message_factory
from google.protobuf.descriptor_pb2 import FileDescriptorSet
from google.protobuf.json_format import MessageToDict

from bridge.core.descriptors import descriptor_set
from bridge.core.update import Form, Format
from tests.core.world import World, server_frames


def test_binary_frames_are_read_with_nothing_but_the_set():
    pool = descriptor_pool.DescriptorPool()
    for file in FileDescriptorSet.FromString(descriptor_set()).file:
        pool.Add(file)  # each behind those that it imports
    frame_type = message_factory.GetMessageClass(pool.FindMessageTypeByName("theblock.state.v1.ServerFrame"))
    ((_, payload),) = server_frames(World().block(7, tx_count=3).frame(Form(Format.PROTO)))
    frame = MessageToDict(frame_type.FromString(payload))
    assert frame["update"]["block"] == {"height": "7", "hash": "AAAABw==", "tx_count": 3}
    assert (frame["update"]["stream"], frame["update"]["seq"]) == ("block_updates", "1")


def test_every_service_is_described_once_and_with_json_names():
    files = FileDescriptorSet.FromString(descriptor_set()).file
    names = [file.name for file in files]
    assert len(names) == len(set(names))
    services = {service.name for file in files for service in file.service}
    assert services == {"StateStreamService", "StateIngestService"}
    for file in files:
        assert names.index(file.name) >= max((names.index(name) for name in file.dependency), default=0)
        assert all(field.json_name for message in file.message_type for field in message.field)
