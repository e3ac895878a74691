"""Exports as a whole: which record is whose, records with broken text, and the letter of the answer."""

from __future__ import annotations

from typing import Any

import pytest
from opentelemetry.proto.collector.logs.v1.logs_service_pb2 import ExportLogsServiceResponse

from server.errors import Invalid
from server.ingest.answer import Answer
from server.model import Durability, Item, Outcome
from server.rpc import twins
from server.rpc.doors import otlp
from server.rpc.doors.otlp_records import Mapping
from tests.support.otlp import export, logs, nested, raw_export, record

REJECTING = Mapping("", 4_096)


def parse(raw: bytes) -> otlp.Export:
    """With a limit that nothing here comes near to."""
    return otlp.parse(raw, lambda records: None)


def broken(raw: bytes) -> bytes:
    """Where it says CAFE it is not UTF-8."""
    return raw.replace(b"CAFE", b"caf\xe9")


def read(raw: bytes) -> dict[str, list[tuple[int, str, str]]]:
    """For each source its rows, with type and reason of rejection."""
    found = {}
    for part in parse(raw).parts(REJECTING):
        offered, faults = part.decode()
        reasons = [faults[place].reason if place in faults else "" for place in range(len(part.rows))]
        found[part.source] = list(zip(part.rows, offered.types, reasons, strict=True))
    return found


def test_each_record_goes_to_its_service() -> None:
    """Resources of one service are one part; numbers are those of the whole export; empty ones are left out."""
    groups = [
        logs(record("a"), record("b")),
        logs(record("c"), service="billing"),
        logs(service="nothing"),
        logs(record("d"), record(""), **{"host.name": "h"}),
    ]
    raw = export(*groups).SerializeToString()
    assert read(raw) == {
        "checkout": [(0, "a", ""), (1, "b", ""), (3, "d", ""), (4, "", "EVENT_NAME_MISSING")],
        "billing": [(2, "c", "")],
    }


@pytest.mark.parametrize("raw", [b"", export(logs()).SerializeToString()])
def test_an_empty_export_has_no_parts(raw: bytes) -> None:
    """It is a success."""
    assert parse(raw).parts(REJECTING) == []


BAD: dict[str, dict[str, Any]] = {
    "event_name": {"name": "CAFE"},
    "severity_text": {"severity_text": "CAFE"},
    "body.string_value": {"body": "CAFE"},
    "body.array_value.values.string_value": {"body": ["x", "CAFE"]},
    "attributes.key": {"told": {"CAFE": 1}},
    "attributes.value.kvlist_value.values.value.string_value": {"told": {"a": {"b": "CAFE"}}},
}


@pytest.mark.parametrize("path", BAD)
def test_a_record_with_broken_text_is_rejected_alone(path: str) -> None:
    """Wherever in it the text is: its neighbours are read."""
    raw = broken(export(logs(record("a"), record(**BAD[path]), record("c", body=b"\xff"))).SerializeToString())
    assert [(row, reason) for row, _type, reason in read(raw)["checkout"]] == [(0, ""), (1, "TEXT_NOT_UTF8"), (2, "")]
    assert parse(raw).faults[1].field == path


@pytest.mark.parametrize("what", ["resource", "resource schema", "scope", "scope schema"])
def test_broken_text_above_records_rejects_those_below_it(what: str) -> None:
    """Of a resource all its records, of a scope that scope's; other resources are read."""
    group = logs(record("a"), record("b"))
    group.scope_logs.add().log_records.append(record("c"))
    if what == "resource":
        group.resource.attributes.add(key="CAFE")
    elif what == "resource schema":
        group.schema_url = "CAFE"
    elif what == "scope":
        group.scope_logs[0].scope.name = "CAFE"
    else:
        group.scope_logs[0].schema_url = "CAFE"
    raw = broken(export(group, logs(record("d"), service="billing")).SerializeToString())
    bad = {0, 1} if "scope" in what else {0, 1, 2}
    rows = [one for part in read(raw).values() for one in part]
    assert {row for row, _type, reason in rows if reason == "TEXT_NOT_UTF8"} == bad
    assert {row for row, _type, reason in rows if not reason} == {0, 1, 2, 3} - bad


NO_EXPORTS = (b"\xff", b"\x0a\x05ab", raw_export(record(), b"\x0a\xff"), raw_export(nested(200)))


@pytest.mark.parametrize("raw", NO_EXPORTS, ids=range(4))
def test_what_is_no_export_is_refused(raw: bytes) -> None:
    """Broken encoding, and nesting beyond the hundred messages that protobuf reads."""
    with pytest.raises(Invalid) as caught:
        parse(raw)
    assert caught.value.reason == "UNDECODABLE"


def test_nesting_that_protobuf_reads_is_read() -> None:
    """For the admission to judge."""
    raw = raw_export(record("a"), nested(45))
    assert read(raw) == {"checkout": [(0, "a", ""), (1, "order.placed", "")]}


@pytest.mark.parametrize("name", ["order.placed", "CAFE"])
def test_too_many_records_are_refused_before_they_are_looked_at(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Also where text is broken."""
    told: list[int] = []
    looked_at: list[object] = []
    monkeypatch.setattr(twins, "bad_text", lambda read, _original: looked_at.append(read))

    def refuse(records: int) -> None:
        told.append(records)
        raise Invalid("BATCH_TOO_LARGE", "too many")

    with pytest.raises(Invalid, match="too many"):
        otlp.parse(broken(export(logs(record(name), record()), logs(record())).SerializeToString()), refuse)
    assert (told, looked_at) == ([3], [])


# The answer


def rejected(row: int, reason: str = "TYPE_INVALID") -> Item:
    """One rejected record."""
    return Item(row, Outcome.REJECTED, reason, f"why {row}", "type")


def test_success_leaves_the_partial_success_unset() -> None:
    """Also where all of it was stored already."""
    duplicate = Item(0, Outcome.DUPLICATE, existing_position=3)
    answer = Answer(Durability.DURABLE, accepted=2, duplicate=1, items=(duplicate,))
    told = otlp.response(answer, 3)
    assert isinstance(told, ExportLogsServiceResponse)
    assert not told.HasField("partial_success")


def test_a_partial_success_has_the_number_and_the_reasons() -> None:
    """The most frequent first, each with the first record it is true of."""
    items = (rejected(1), Item(2, Outcome.DUPLICATE), rejected(4, "METADATA_TOO_DEEP"), rejected(7))
    told = otlp.response(Answer(Durability.DURABLE, accepted=6, duplicate=1, rejected=3, items=items), 10)
    assert isinstance(told, ExportLogsServiceResponse)
    assert told.partial_success.rejected_log_records == 3
    text = told.partial_success.error_message
    assert "3 of 10" in text
    assert "TYPE_INVALID (2 times, first in record 1: why 1); METADATA_TOO_DEEP (1 times, first in record 4" in text


def test_if_nothing_was_taken_the_export_is_refused() -> None:
    """Some senders overlook a partial success, none an INVALID_ARGUMENT; neither is sent again."""
    told = otlp.response(Answer(Durability.DURABLE, rejected=2, items=(rejected(0), rejected(1))), 2)
    assert isinstance(told, Invalid)
    assert (told.reason, told.field) == ("ALL_REJECTED", "type")
    assert "why 0" in told.message


def test_the_text_of_an_answer_is_bounded() -> None:
    """Whatever a sender does, eight reasons are told."""
    items = tuple(rejected(row, f"REASON_{row}") for row in range(100))
    told = otlp.response(Answer(Durability.DURABLE, accepted=1, rejected=100, items=items), 101)
    assert isinstance(told, ExportLogsServiceResponse)
    assert told.partial_success.error_message.count("REASON_") == 8
