from trackd.v1 import event_pb2 as _event_pb2
from trackd.v1 import query_pb2 as _query_pb2
from google.protobuf.internal import containers as _containers
from google.protobuf.internal import enum_type_wrapper as _enum_type_wrapper
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from collections.abc import Iterable as _Iterable, Mapping as _Mapping
from typing import ClassVar as _ClassVar, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class GapReason(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    GAP_REASON_UNSPECIFIED: _ClassVar[GapReason]
    GAP_REASON_MONTH_DAMAGED: _ClassVar[GapReason]
    GAP_REASON_MONTH_DROPPED: _ClassVar[GapReason]
GAP_REASON_UNSPECIFIED: GapReason
GAP_REASON_MONTH_DAMAGED: GapReason
GAP_REASON_MONTH_DROPPED: GapReason

class SubscribeRequest(_message.Message):
    __slots__ = ("after_position", "received_from_ms", "filter")
    AFTER_POSITION_FIELD_NUMBER: _ClassVar[int]
    RECEIVED_FROM_MS_FIELD_NUMBER: _ClassVar[int]
    FILTER_FIELD_NUMBER: _ClassVar[int]
    after_position: int
    received_from_ms: int
    filter: _query_pb2.EventFilter
    def __init__(self, after_position: _Optional[int] = ..., received_from_ms: _Optional[int] = ..., filter: _Optional[_Union[_query_pb2.EventFilter, _Mapping]] = ...) -> None: ...

class SubscribeResponse(_message.Message):
    __slots__ = ("confirmed", "events", "gap", "checkpoint", "caught_up", "heartbeat")
    CONFIRMED_FIELD_NUMBER: _ClassVar[int]
    EVENTS_FIELD_NUMBER: _ClassVar[int]
    GAP_FIELD_NUMBER: _ClassVar[int]
    CHECKPOINT_FIELD_NUMBER: _ClassVar[int]
    CAUGHT_UP_FIELD_NUMBER: _ClassVar[int]
    HEARTBEAT_FIELD_NUMBER: _ClassVar[int]
    confirmed: SubscribeConfirmed
    events: SubscribeEvents
    gap: SubscribeGap
    checkpoint: SubscribeCheckpoint
    caught_up: SubscribeCaughtUp
    heartbeat: SubscribeHeartbeat
    def __init__(self, confirmed: _Optional[_Union[SubscribeConfirmed, _Mapping]] = ..., events: _Optional[_Union[SubscribeEvents, _Mapping]] = ..., gap: _Optional[_Union[SubscribeGap, _Mapping]] = ..., checkpoint: _Optional[_Union[SubscribeCheckpoint, _Mapping]] = ..., caught_up: _Optional[_Union[SubscribeCaughtUp, _Mapping]] = ..., heartbeat: _Optional[_Union[SubscribeHeartbeat, _Mapping]] = ...) -> None: ...

class SubscribeConfirmed(_message.Message):
    __slots__ = ("after_position", "head")
    AFTER_POSITION_FIELD_NUMBER: _ClassVar[int]
    HEAD_FIELD_NUMBER: _ClassVar[int]
    after_position: int
    head: int
    def __init__(self, after_position: _Optional[int] = ..., head: _Optional[int] = ...) -> None: ...

class SubscribeEvents(_message.Message):
    __slots__ = ("events", "head")
    EVENTS_FIELD_NUMBER: _ClassVar[int]
    HEAD_FIELD_NUMBER: _ClassVar[int]
    events: _containers.RepeatedCompositeFieldContainer[_event_pb2.StoredEvent]
    head: int
    def __init__(self, events: _Optional[_Iterable[_Union[_event_pb2.StoredEvent, _Mapping]]] = ..., head: _Optional[int] = ...) -> None: ...

class SubscribeGap(_message.Message):
    __slots__ = ("month", "reason")
    MONTH_FIELD_NUMBER: _ClassVar[int]
    REASON_FIELD_NUMBER: _ClassVar[int]
    month: str
    reason: GapReason
    def __init__(self, month: _Optional[str] = ..., reason: _Optional[_Union[GapReason, str]] = ...) -> None: ...

class SubscribeCheckpoint(_message.Message):
    __slots__ = ("position",)
    POSITION_FIELD_NUMBER: _ClassVar[int]
    position: int
    def __init__(self, position: _Optional[int] = ...) -> None: ...

class SubscribeCaughtUp(_message.Message):
    __slots__ = ("head",)
    HEAD_FIELD_NUMBER: _ClassVar[int]
    head: int
    def __init__(self, head: _Optional[int] = ...) -> None: ...

class SubscribeHeartbeat(_message.Message):
    __slots__ = ("head",)
    HEAD_FIELD_NUMBER: _ClassVar[int]
    head: int
    def __init__(self, head: _Optional[int] = ...) -> None: ...
