"""What protos/ says beside the generated stubs: the standard status message, and numbers that are also stored."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from google.protobuf import descriptor_pb2, text_format
from google.rpc import status_pb2
from trackd.v1 import event_pb2

from server.model import Action, ChangeStatus

PROTOS = Path(__file__).parents[2] / "protos"
FIELD = re.compile(r"(repeated )?([\w.]+) (\w+) = (\d+);")
OPTION = re.compile(r'option (\w+) = (true|false|".*");')


def statements(text: str) -> list[str]:
    """The lines of a .proto file without comments and empty lines."""
    return [line.strip() for line in text.splitlines() if line.strip() and not line.strip().startswith("//")]


def parse(path: str) -> descriptor_pb2.FileDescriptorProto:
    """A file of one-line statements and flat messages as its descriptor; ValueError for any other line."""
    file = descriptor_pb2.FileDescriptorProto(name=path)
    for line in statements((PROTOS / path).read_text("utf-8")):
        if found := re.fullmatch(r'syntax = "(\w+)";', line):
            file.syntax = found[1]
        elif found := re.fullmatch(r"package ([\w.]+);", line):
            file.package = found[1]
        elif found := re.fullmatch(r'import "(.+)";', line):
            file.dependency.append(found[1])
        elif found := OPTION.fullmatch(line):
            text_format.Parse(f"{found[1]}: {found[2]}", file.options)
        elif found := re.fullmatch(r"message (\w+) \{", line):
            file.message_type.add(name=found[1])
        elif found := FIELD.fullmatch(line):
            add_field(file.message_type[-1], *found.groups())
        elif line != "}":
            message = f"{path}: {line}"
            raise ValueError(message)
    return file


def add_field(message: descriptor_pb2.DescriptorProto, repeated: str | None, kind: str, name: str, number: str) -> None:
    """One field of a message."""
    label = descriptor_pb2.FieldDescriptorProto.Label.Value("LABEL_REPEATED" if repeated else "LABEL_OPTIONAL")
    field = message.field.add(name=name, number=int(number), label=label)
    if "." in kind:
        field.type = descriptor_pb2.FieldDescriptorProto.TYPE_MESSAGE
        field.type_name = f".{kind}"
    else:
        field.type = descriptor_pb2.FieldDescriptorProto.Type.Value(f"TYPE_{kind.upper()}")


def test_our_statement_of_the_standard_status_is_the_standard_one() -> None:
    """protos/google/rpc/status.proto describes the message that googleapis-common-protos ships, options and all."""
    ours, standard = parse("google/rpc/status.proto"), descriptor_pb2.FileDescriptorProto()
    status_pb2.DESCRIPTOR.CopyToProto(standard)
    for file in (ours, standard):
        # The default since protobuf 3.14: some releases still say so, others do not.
        file.options.ClearField("cc_enable_arenas")
    assert ours == standard


def test_a_line_that_is_not_understood_is_not_skipped(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The comparison cannot pass by overlooking something."""
    monkeypatch.setitem(globals(), "PROTOS", tmp_path)
    (tmp_path / "odd.proto").write_text('syntax = "proto3";\nmessage A {\n  oneof b {\n', "utf-8")
    with pytest.raises(ValueError, match="oneof b"):
        parse("odd.proto")


@pytest.mark.parametrize(
    ("ours", "prefix", "wire"),
    [(Action, "CHANGE_ACTION", event_pb2.ChangeAction), (ChangeStatus, "CHANGE_STATUS", event_pb2.ChangeStatus)],
)
def test_stored_numbers_are_those_of_the_wire(
    ours: type[Action | ChangeStatus], prefix: str, wire: type[event_pb2.ChangeAction]
) -> None:
    """Actions and states of changes are stored under the numbers they are sent with, every one of them."""
    sent = {name: number for name, number in wire.items() if number}
    assert {f"{prefix}_{member.name}": member.value for member in ours} == sent
