"""What the rules of a profile do to the fields of an event (retention.policy.Treatment), the same for every engine.

What cannot be treated as its rule says is dropped: a text that is no address, metadata that are no object. A dropped
text is "", a dropped user is nobody, a dropped source is called "-", a dropped time of receipt is 0. A change whose
outcome is dropped goes whole, since without its action nothing can be said of it.

Pseudonyms ("rekey per day") are made of the text, the UTC day of the event and a secret that is drawn for one rewrite
and never leaves it: the same person has the same one all day, another one on every other day, and nobody can compute
them again (GDPR Art. 4(5)).
"""

from __future__ import annotations

import json
import secrets
from collections.abc import Callable, Collection
from dataclasses import replace
from functools import lru_cache
from hashlib import blake2b
from ipaddress import ip_address, ip_network
from typing import Any, TypeAlias

import msgspec
import orjson

from retention.policy import Claim, FieldRule, Profile, Treatment
from server.model import Change, Event
from server.time_buckets import DAY_MS

DROPPED_SOURCE = "-"
IPV4_BITS, IPV6_BITS = 24, 48
PSEUDONYM_BYTES = 10
PSEUDONYM_MARK = "~"

TextRule: TypeAlias = Callable[[str, int], str]
"""(text, UTC day) -> what it becomes."""


class Treatments:
    """One rewrite's rules, field by field, with its secret."""

    def __init__(self, profile: Profile, secret: bytes | None = None) -> None:
        self.profile = profile
        self._secret = secret or secrets.token_bytes(32)

    def rule(self, field: str) -> FieldRule:
        """What the profile says of a field."""
        return self.profile.rule(field)

    def keeps(self, field: str) -> bool:
        """Whether the field stays as it is."""
        return self.rule(field).treatment is Treatment.KEEP

    def drops(self, field: str) -> bool:
        """Whether nothing of the field stays."""
        return self.rule(field).treatment is Treatment.DROP

    @property
    def deals_anew(self) -> bool:
        """Whether ids are new and positions change hands: an id is known to whoever sent it."""
        return self.profile.claim is Claim.ANONYMOUS

    def text(self, field: str) -> TextRule:
        """What becomes of a text of this field."""
        rule = self.rule(field)
        match rule.treatment:
            case Treatment.KEEP:
                return lambda text, _day: text
            case Treatment.REKEY:
                return self.pseudonym
            case Treatment.TRUNCATE:
                return lambda text, _day: truncated(text)
            case Treatment.ALLOW if field == "tags":
                words = frozenset(rule.keys)
                return lambda text, _day: allowed_words(text, words)
            case Treatment.ALLOW:
                keys = frozenset(rule.keys)
                return lambda text, _day: allowed_keys(text, keys)
            case _:
                return lambda _text, _day: ""

    def pseudonym(self, text: str, day: int) -> str:
        """Another name for a text on a day; nobody stays nobody."""
        if not text:
            return ""
        made = blake2b(text.encode(), digest_size=PSEUDONYM_BYTES, key=self._secret, salt=day.to_bytes(16, "big"))
        return PSEUDONYM_MARK + made.hexdigest()

    def time(self, field: str, time_ms: int) -> int:
        """What becomes of a time; dropped it is 0."""
        rule = self.rule(field)
        if rule.treatment is Treatment.ROUND:
            return time_ms // rule.grain_ms * rule.grain_ms
        return time_ms if rule.treatment is Treatment.KEEP else 0

    def event(self, event: Event) -> Event:
        """The event as it is afterwards, but for what is dealt anew."""
        day = event.timestamp_ms // DAY_MS
        return replace(
            event,
            user_id=self.text("user_id")(event.user_id, day),
            source=event.source if self.keeps("source") else DROPPED_SOURCE,
            timestamp_ms=self.time("timestamp", event.timestamp_ms),
            received_ms=self.time("received", event.received_ms),
            session_id=self.text("session_id")(event.session_id, day),
            client_ip=self.text("client_ip")(event.client_ip, day),
            description=self.text("description")(event.description, day),
            tags=self._tags(event.tags),
            metadata=self.text("metadata")(event.metadata, day),
            change=self._change(event.change, day),
        )

    def _tags(self, tags: tuple[str, ...]) -> tuple[str, ...]:
        if self.keeps("tags"):
            return tags
        words = self.rule("tags").keys
        return tuple(tag for tag in tags if tag in words)

    def _change(self, change: Change | None, day: int) -> Change | None:
        if change is None or self.drops("change.outcome"):
            return None
        return replace(
            change,
            table_name=self.text("change.table_name")(change.table_name, day),
            row_id=self.text("change.row_id")(change.row_id, day),
            old_values=self.text("change.old_values")(change.old_values, day),
            new_values=self.text("change.new_values")(change.new_values, day),
        )


@lru_cache(maxsize=65_536)
def truncated(address: str) -> str:
    """An address without the bits that tell a household: IPv4 to 24 bits, IPv6 to 48; "" for anything else."""
    try:
        known = ip_address(address)
    except ValueError:
        return ""
    bits = IPV4_BITS if known.version == 4 else IPV6_BITS
    return str(ip_network((known.packed, bits), strict=False).network_address)


def allowed_words(array: str, words: Collection[str]) -> str:
    """Of a JSON array of texts only these, as it is stored; "" if none is left."""
    if not array:
        return ""
    kept = [word for word in orjson.loads(array) if word in words]
    return orjson.dumps(kept).decode() if kept else ""


def allowed_keys(document: str, keys: Collection[str]) -> str:
    """Of a JSON object only these keys, each value letter by letter as it was; "" if none is left.

    Of a key that is there twice the first one counts, as it does for questions (server.question.FieldKind.METADATA).
    """
    if not document:
        return ""
    try:
        if any(document.count(key) > 1 for key in keys) or "\\" in document:
            found = _first_of_each(document)
        else:
            found = _OBJECT.decode(document)
    except (msgspec.DecodeError, ValueError, RecursionError):
        return ""
    kept = {key: found[key] for key in sorted(keys) if key in found}
    return msgspec.json.encode(kept).decode() if kept else ""


_OBJECT = msgspec.json.Decoder(dict[str, msgspec.Raw])


def _first_of_each(document: str) -> dict[str, Any]:
    """The slow way: for documents in which keys may be there twice."""

    def raw(number: str) -> msgspec.Raw:
        return msgspec.Raw(number.encode())

    def first(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        return dict(reversed(pairs))

    found = json.loads(document, object_pairs_hook=first, parse_float=raw, parse_int=raw)
    return found if isinstance(found, dict) else {}
