"""Message types with the same bytes, read another way.

The decoder refuses a message with text that is not UTF-8 as a whole and does not say where. Its twin, with bytes for
text, can be decoded, so that only the events at fault are rejected.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from google.protobuf import descriptor_pb2, descriptor_pool, message, message_factory

Field = descriptor_pb2.FieldDescriptorProto

SEARCHED_BYTES_MAX = 65_536
"""A search field by field takes milliseconds then, and the event loop waits."""


def _unaltered(_field: Field) -> None:
    """A twin that differs in its text only."""


def twin(original: type[message.Message], alter: Callable[[Field], None] = _unaltered) -> type[message.Message]:
    """A type for the messages of another one, whose text is not checked; `alter` may change fields further.

    Its syntax is proto2: every field has presence. Maps are what they are on the wire, repeated pairs of key and value.
    """
    pool = descriptor_pool.DescriptorPool()
    _add(original.DESCRIPTOR.file, pool, alter, set())
    return message_factory.GetMessageClass(pool.FindMessageTypeByName(original.DESCRIPTOR.full_name))


def _add(
    source: Any,
    pool: descriptor_pool.DescriptorPool,
    alter: Callable[[Field], None],
    done: set[str],
) -> None:
    """Adds a file behind those it depends on."""
    if source.name in done:
        return
    done.add(source.name)
    for needed in source.dependencies:
        _add(needed, pool, alter, done)
    file = descriptor_pb2.FileDescriptorProto()
    source.CopyToProto(file)
    file.syntax = "proto2"
    file.ClearField("options")
    del file.service[:]
    for kind in file.message_type:
        _loosen(kind, alter)
    pool.Add(file)


def _loosen(kind: descriptor_pb2.DescriptorProto, alter: Callable[[Field], None]) -> None:
    kind.ClearField("options")  # in which a map says that it is one
    for inner in kind.nested_type:
        _loosen(inner, alter)
    for field in kind.field:
        if field.proto3_optional:
            field.ClearField("proto3_optional")
            field.ClearField("oneof_index")
        if field.type == Field.TYPE_STRING:
            field.type = Field.TYPE_BYTES
        alter(field)
    # Those of optional fields come last.
    while kind.oneof_decl and kind.oneof_decl[-1].name.startswith("_"):
        del kind.oneof_decl[-1]


def bad_text(read: message.Message, original: type[message.Message]) -> str:
    """The path of the first text of a twin's message that is not UTF-8, such as "change.row_id"; "" if all is well.

    `original` is what it is the twin of. In a message of more than SEARCHED_BYTES_MAX it is just that one's name.
    """
    raw = read.SerializeToString()
    try:
        original.FromString(raw)
    except message.DecodeError:
        found = _not_utf8(read, original.DESCRIPTOR) if len(raw) <= SEARCHED_BYTES_MAX else ""
        return found or original.DESCRIPTOR.name
    return ""


def _not_utf8(read: message.Message, original: Any) -> str:
    for field, value in read.ListFields():
        known = original.fields_by_name[field.name]
        values: Sequence[Any] = value if field.is_repeated else [value]
        if known.message_type is not None:
            for one in values:
                if inner := _not_utf8(one, known.message_type):
                    return f"{field.name}.{inner}"
        elif known.type == Field.TYPE_STRING and not all(map(is_utf8, values)):
            return str(field.name)
    return ""


def is_utf8(text: bytes) -> bool:
    """Whether it is."""
    try:
        text.decode()
    except UnicodeDecodeError:
        return False
    return True
