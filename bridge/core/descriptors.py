"""The proto files as a FileDescriptorSet, with which any tool decodes binary frames and gRPC messages."""

from collections.abc import Iterable
from functools import cache

from google.protobuf.descriptor import Descriptor, FileDescriptor
from google.protobuf.descriptor_pb2 import DescriptorProto, FileDescriptorSet

from generated.theblock.state.v1 import frames_pb2, ingest_pb2, service_pb2, view_pb2

ROOTS = (frames_pb2.DESCRIPTOR, service_pb2.DESCRIPTOR, ingest_pb2.DESCRIPTOR, view_pb2.DESCRIPTOR)
"""Files that together import all others."""


@cache
def descriptor_set() -> bytes:
    """Return the serialized google.protobuf.FileDescriptorSet: each file behind those that it imports."""
    files: dict[str, FileDescriptor] = {}
    collect(ROOTS, files)
    found = FileDescriptorSet()
    for file in files.values():
        copy = found.file.add()
        copy.ParseFromString(file.serialized_pb)
        for message in copy.message_type:
            name_fields(message, file.message_types_by_name[message.name])
    return found.SerializeToString(deterministic=True)


def collect(wanted: Iterable[FileDescriptor], files: dict[str, FileDescriptor]) -> None:
    """Add files, and before each those that it imports, to `files`."""
    for file in wanted:
        if file.name not in files:
            collect(file.dependencies, files)
            files[file.name] = file


def name_fields(message: DescriptorProto, descriptor: Descriptor) -> None:
    """Set the JSON name of every field, as protoc does in a set; in generated code it leaves most of them out."""
    for field in message.field:
        field.json_name = descriptor.fields_by_name[field.name].json_name
    for nested in message.nested_type:
        name_fields(nested, descriptor.nested_types_by_name[nested.name])
