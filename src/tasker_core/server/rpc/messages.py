"""The protocol as it was compiled → the classes of its messages, and its services.

The protocol has a pool of its own: a client's generated code in the same process may know
another version of it.
"""

from __future__ import annotations

from functools import cache
from importlib.resources import files
from typing import Any

from google.protobuf import struct_pb2, timestamp_pb2
from google.protobuf.descriptor import MethodDescriptor, ServiceDescriptor
from google.protobuf.descriptor_pb2 import FileDescriptorSet
from google.protobuf.descriptor_pool import DescriptorPool
from google.protobuf.message_factory import GetMessageClass

PACKAGE = "tasker.v1"
COMPILED = "tasker_v1.binpb"


@cache
def pool() -> DescriptorPool:
    """Give the descriptors of the protocol."""
    found = DescriptorPool()
    for module in (struct_pb2, timestamp_pb2):
        found.AddSerializedFile(module.DESCRIPTOR.serialized_pb)
    for file in _compiled().file:  # what a file imports stands before it
        found.AddSerializedFile(file.SerializeToString())
    return found


@cache
def services() -> tuple[ServiceDescriptor, ...]:
    """List the services."""
    names = [f"{file.package}.{one.name}" for file in _compiled().file for one in file.service]
    return tuple(pool().FindServiceByName(name) for name in names)


def message(name: str) -> Any:
    """Give the class of a message: `message("Task")`."""
    return GetMessageClass(pool().FindMessageTypeByName(f"{PACKAGE}.{name}"))


def request_of(method: MethodDescriptor) -> Any:
    """Give the class of what a call brings."""
    return GetMessageClass(method.input_type)


def response_of(method: MethodDescriptor) -> Any:
    """Give the class of what a call gets."""
    return GetMessageClass(method.output_type)


@cache
def _compiled() -> FileDescriptorSet:
    return FileDescriptorSet.FromString(files(__package__).joinpath(COMPILED).read_bytes())
