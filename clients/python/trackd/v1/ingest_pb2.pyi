from google.rpc import status_pb2 as _status_pb2
from trackd.v1 import event_pb2 as _event_pb2
from google.protobuf.internal import containers as _containers
from google.protobuf.internal import enum_type_wrapper as _enum_type_wrapper
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from collections.abc import Iterable as _Iterable, Mapping as _Mapping
from typing import ClassVar as _ClassVar, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class Durability(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    DURABILITY_UNSPECIFIED: _ClassVar[Durability]
    DURABILITY_DURABLE: _ClassVar[Durability]
    DURABILITY_ACCEPTED: _ClassVar[Durability]

class AppendOutcome(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    APPEND_OUTCOME_UNSPECIFIED: _ClassVar[AppendOutcome]
    APPEND_OUTCOME_DUPLICATE: _ClassVar[AppendOutcome]
    APPEND_OUTCOME_REJECTED: _ClassVar[AppendOutcome]
DURABILITY_UNSPECIFIED: Durability
DURABILITY_DURABLE: Durability
DURABILITY_ACCEPTED: Durability
APPEND_OUTCOME_UNSPECIFIED: AppendOutcome
APPEND_OUTCOME_DUPLICATE: AppendOutcome
APPEND_OUTCOME_REJECTED: AppendOutcome

class AppendRequest(_message.Message):
    __slots__ = ("source", "durability", "events", "atomic")
    SOURCE_FIELD_NUMBER: _ClassVar[int]
    DURABILITY_FIELD_NUMBER: _ClassVar[int]
    EVENTS_FIELD_NUMBER: _ClassVar[int]
    ATOMIC_FIELD_NUMBER: _ClassVar[int]
    source: str
    durability: Durability
    events: _containers.RepeatedCompositeFieldContainer[_event_pb2.Event]
    atomic: bool
    def __init__(self, source: _Optional[str] = ..., durability: _Optional[_Union[Durability, str]] = ..., events: _Optional[_Iterable[_Union[_event_pb2.Event, _Mapping]]] = ..., atomic: bool = ...) -> None: ...

class AppendResponse(_message.Message):
    __slots__ = ("result",)
    RESULT_FIELD_NUMBER: _ClassVar[int]
    result: AppendResult
    def __init__(self, result: _Optional[_Union[AppendResult, _Mapping]] = ...) -> None: ...

class AppendStreamRequest(_message.Message):
    __slots__ = ("open", "batch")
    OPEN_FIELD_NUMBER: _ClassVar[int]
    BATCH_FIELD_NUMBER: _ClassVar[int]
    open: AppendStreamOpen
    batch: AppendBatch
    def __init__(self, open: _Optional[_Union[AppendStreamOpen, _Mapping]] = ..., batch: _Optional[_Union[AppendBatch, _Mapping]] = ...) -> None: ...

class AppendStreamOpen(_message.Message):
    __slots__ = ("source", "durability")
    SOURCE_FIELD_NUMBER: _ClassVar[int]
    DURABILITY_FIELD_NUMBER: _ClassVar[int]
    source: str
    durability: Durability
    def __init__(self, source: _Optional[str] = ..., durability: _Optional[_Union[Durability, str]] = ...) -> None: ...

class AppendBatch(_message.Message):
    __slots__ = ("batch_id", "events", "atomic")
    BATCH_ID_FIELD_NUMBER: _ClassVar[int]
    EVENTS_FIELD_NUMBER: _ClassVar[int]
    ATOMIC_FIELD_NUMBER: _ClassVar[int]
    batch_id: int
    events: _containers.RepeatedCompositeFieldContainer[_event_pb2.Event]
    atomic: bool
    def __init__(self, batch_id: _Optional[int] = ..., events: _Optional[_Iterable[_Union[_event_pb2.Event, _Mapping]]] = ..., atomic: bool = ...) -> None: ...

class AppendStreamResponse(_message.Message):
    __slots__ = ("opened", "answer")
    OPENED_FIELD_NUMBER: _ClassVar[int]
    ANSWER_FIELD_NUMBER: _ClassVar[int]
    opened: AppendStreamOpened
    answer: AppendBatchAnswer
    def __init__(self, opened: _Optional[_Union[AppendStreamOpened, _Mapping]] = ..., answer: _Optional[_Union[AppendBatchAnswer, _Mapping]] = ...) -> None: ...

class AppendStreamOpened(_message.Message):
    __slots__ = ("limits", "head", "durability")
    LIMITS_FIELD_NUMBER: _ClassVar[int]
    HEAD_FIELD_NUMBER: _ClassVar[int]
    DURABILITY_FIELD_NUMBER: _ClassVar[int]
    limits: IngestLimits
    head: int
    durability: Durability
    def __init__(self, limits: _Optional[_Union[IngestLimits, _Mapping]] = ..., head: _Optional[int] = ..., durability: _Optional[_Union[Durability, str]] = ...) -> None: ...

class IngestLimits(_message.Message):
    __slots__ = ("max_batch_bytes", "max_batch_events", "max_in_flight_batches", "max_in_flight_bytes", "oldest_timestamp_ms", "max_future_skew_ms", "max_metadata_bytes")
    MAX_BATCH_BYTES_FIELD_NUMBER: _ClassVar[int]
    MAX_BATCH_EVENTS_FIELD_NUMBER: _ClassVar[int]
    MAX_IN_FLIGHT_BATCHES_FIELD_NUMBER: _ClassVar[int]
    MAX_IN_FLIGHT_BYTES_FIELD_NUMBER: _ClassVar[int]
    OLDEST_TIMESTAMP_MS_FIELD_NUMBER: _ClassVar[int]
    MAX_FUTURE_SKEW_MS_FIELD_NUMBER: _ClassVar[int]
    MAX_METADATA_BYTES_FIELD_NUMBER: _ClassVar[int]
    max_batch_bytes: int
    max_batch_events: int
    max_in_flight_batches: int
    max_in_flight_bytes: int
    oldest_timestamp_ms: int
    max_future_skew_ms: int
    max_metadata_bytes: int
    def __init__(self, max_batch_bytes: _Optional[int] = ..., max_batch_events: _Optional[int] = ..., max_in_flight_batches: _Optional[int] = ..., max_in_flight_bytes: _Optional[int] = ..., oldest_timestamp_ms: _Optional[int] = ..., max_future_skew_ms: _Optional[int] = ..., max_metadata_bytes: _Optional[int] = ...) -> None: ...

class AppendBatchAnswer(_message.Message):
    __slots__ = ("batch_id", "result", "error")
    BATCH_ID_FIELD_NUMBER: _ClassVar[int]
    RESULT_FIELD_NUMBER: _ClassVar[int]
    ERROR_FIELD_NUMBER: _ClassVar[int]
    batch_id: int
    result: AppendResult
    error: _status_pb2.Status
    def __init__(self, batch_id: _Optional[int] = ..., result: _Optional[_Union[AppendResult, _Mapping]] = ..., error: _Optional[_Union[_status_pb2.Status, _Mapping]] = ...) -> None: ...

class AppendResult(_message.Message):
    __slots__ = ("accepted", "duplicate", "rejected", "queued", "first_position", "last_position", "durability", "items")
    ACCEPTED_FIELD_NUMBER: _ClassVar[int]
    DUPLICATE_FIELD_NUMBER: _ClassVar[int]
    REJECTED_FIELD_NUMBER: _ClassVar[int]
    QUEUED_FIELD_NUMBER: _ClassVar[int]
    FIRST_POSITION_FIELD_NUMBER: _ClassVar[int]
    LAST_POSITION_FIELD_NUMBER: _ClassVar[int]
    DURABILITY_FIELD_NUMBER: _ClassVar[int]
    ITEMS_FIELD_NUMBER: _ClassVar[int]
    accepted: int
    duplicate: int
    rejected: int
    queued: int
    first_position: int
    last_position: int
    durability: Durability
    items: _containers.RepeatedCompositeFieldContainer[AppendItem]
    def __init__(self, accepted: _Optional[int] = ..., duplicate: _Optional[int] = ..., rejected: _Optional[int] = ..., queued: _Optional[int] = ..., first_position: _Optional[int] = ..., last_position: _Optional[int] = ..., durability: _Optional[_Union[Durability, str]] = ..., items: _Optional[_Iterable[_Union[AppendItem, _Mapping]]] = ...) -> None: ...

class AppendItem(_message.Message):
    __slots__ = ("index", "outcome", "reason", "message", "field", "retryable", "existing_position")
    INDEX_FIELD_NUMBER: _ClassVar[int]
    OUTCOME_FIELD_NUMBER: _ClassVar[int]
    REASON_FIELD_NUMBER: _ClassVar[int]
    MESSAGE_FIELD_NUMBER: _ClassVar[int]
    FIELD_FIELD_NUMBER: _ClassVar[int]
    RETRYABLE_FIELD_NUMBER: _ClassVar[int]
    EXISTING_POSITION_FIELD_NUMBER: _ClassVar[int]
    index: int
    outcome: AppendOutcome
    reason: str
    message: str
    field: str
    retryable: bool
    existing_position: int
    def __init__(self, index: _Optional[int] = ..., outcome: _Optional[_Union[AppendOutcome, str]] = ..., reason: _Optional[str] = ..., message: _Optional[str] = ..., field: _Optional[str] = ..., retryable: bool = ..., existing_position: _Optional[int] = ...) -> None: ...
