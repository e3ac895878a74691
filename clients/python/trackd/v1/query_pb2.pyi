from trackd.v1 import event_pb2 as _event_pb2
from google.protobuf.internal import containers as _containers
from google.protobuf.internal import enum_type_wrapper as _enum_type_wrapper
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from collections.abc import Iterable as _Iterable, Mapping as _Mapping
from typing import ClassVar as _ClassVar, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class EventOrder(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    EVENT_ORDER_UNSPECIFIED: _ClassVar[EventOrder]
    EVENT_ORDER_TIME_ASC: _ClassVar[EventOrder]
    EVENT_ORDER_TIME_DESC: _ClassVar[EventOrder]
    EVENT_ORDER_POSITION_ASC: _ClassVar[EventOrder]
    EVENT_ORDER_POSITION_DESC: _ClassVar[EventOrder]

class CountDimension(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    COUNT_DIMENSION_UNSPECIFIED: _ClassVar[CountDimension]
    COUNT_DIMENSION_TYPE: _ClassVar[CountDimension]
    COUNT_DIMENSION_MONTH: _ClassVar[CountDimension]
    COUNT_DIMENSION_SOURCE: _ClassVar[CountDimension]
    COUNT_DIMENSION_USER: _ClassVar[CountDimension]
EVENT_ORDER_UNSPECIFIED: EventOrder
EVENT_ORDER_TIME_ASC: EventOrder
EVENT_ORDER_TIME_DESC: EventOrder
EVENT_ORDER_POSITION_ASC: EventOrder
EVENT_ORDER_POSITION_DESC: EventOrder
COUNT_DIMENSION_UNSPECIFIED: CountDimension
COUNT_DIMENSION_TYPE: CountDimension
COUNT_DIMENSION_MONTH: CountDimension
COUNT_DIMENSION_SOURCE: CountDimension
COUNT_DIMENSION_USER: CountDimension

class EventFilter(_message.Message):
    __slots__ = ("start_ms", "end_ms", "types", "user_ids", "sources", "session_ids", "tags", "after_position", "up_to_position")
    START_MS_FIELD_NUMBER: _ClassVar[int]
    END_MS_FIELD_NUMBER: _ClassVar[int]
    TYPES_FIELD_NUMBER: _ClassVar[int]
    USER_IDS_FIELD_NUMBER: _ClassVar[int]
    SOURCES_FIELD_NUMBER: _ClassVar[int]
    SESSION_IDS_FIELD_NUMBER: _ClassVar[int]
    TAGS_FIELD_NUMBER: _ClassVar[int]
    AFTER_POSITION_FIELD_NUMBER: _ClassVar[int]
    UP_TO_POSITION_FIELD_NUMBER: _ClassVar[int]
    start_ms: int
    end_ms: int
    types: _containers.RepeatedScalarFieldContainer[str]
    user_ids: _containers.RepeatedScalarFieldContainer[str]
    sources: _containers.RepeatedScalarFieldContainer[str]
    session_ids: _containers.RepeatedScalarFieldContainer[str]
    tags: _containers.RepeatedScalarFieldContainer[str]
    after_position: int
    up_to_position: int
    def __init__(self, start_ms: _Optional[int] = ..., end_ms: _Optional[int] = ..., types: _Optional[_Iterable[str]] = ..., user_ids: _Optional[_Iterable[str]] = ..., sources: _Optional[_Iterable[str]] = ..., session_ids: _Optional[_Iterable[str]] = ..., tags: _Optional[_Iterable[str]] = ..., after_position: _Optional[int] = ..., up_to_position: _Optional[int] = ...) -> None: ...

class ListEventsRequest(_message.Message):
    __slots__ = ("filter", "order", "page_size", "page_token", "at_least_position")
    FILTER_FIELD_NUMBER: _ClassVar[int]
    ORDER_FIELD_NUMBER: _ClassVar[int]
    PAGE_SIZE_FIELD_NUMBER: _ClassVar[int]
    PAGE_TOKEN_FIELD_NUMBER: _ClassVar[int]
    AT_LEAST_POSITION_FIELD_NUMBER: _ClassVar[int]
    filter: EventFilter
    order: EventOrder
    page_size: int
    page_token: str
    at_least_position: int
    def __init__(self, filter: _Optional[_Union[EventFilter, _Mapping]] = ..., order: _Optional[_Union[EventOrder, str]] = ..., page_size: _Optional[int] = ..., page_token: _Optional[str] = ..., at_least_position: _Optional[int] = ...) -> None: ...

class ListEventsResponse(_message.Message):
    __slots__ = ("events", "next_page_token", "as_of_position")
    EVENTS_FIELD_NUMBER: _ClassVar[int]
    NEXT_PAGE_TOKEN_FIELD_NUMBER: _ClassVar[int]
    AS_OF_POSITION_FIELD_NUMBER: _ClassVar[int]
    events: _containers.RepeatedCompositeFieldContainer[_event_pb2.StoredEvent]
    next_page_token: str
    as_of_position: int
    def __init__(self, events: _Optional[_Iterable[_Union[_event_pb2.StoredEvent, _Mapping]]] = ..., next_page_token: _Optional[str] = ..., as_of_position: _Optional[int] = ...) -> None: ...

class CountEventsRequest(_message.Message):
    __slots__ = ("filter", "by", "at_least_position")
    FILTER_FIELD_NUMBER: _ClassVar[int]
    BY_FIELD_NUMBER: _ClassVar[int]
    AT_LEAST_POSITION_FIELD_NUMBER: _ClassVar[int]
    filter: EventFilter
    by: _containers.RepeatedScalarFieldContainer[CountDimension]
    at_least_position: int
    def __init__(self, filter: _Optional[_Union[EventFilter, _Mapping]] = ..., by: _Optional[_Iterable[_Union[CountDimension, str]]] = ..., at_least_position: _Optional[int] = ...) -> None: ...

class CountEventsResponse(_message.Message):
    __slots__ = ("rows", "events", "as_of_position")
    ROWS_FIELD_NUMBER: _ClassVar[int]
    EVENTS_FIELD_NUMBER: _ClassVar[int]
    AS_OF_POSITION_FIELD_NUMBER: _ClassVar[int]
    rows: _containers.RepeatedCompositeFieldContainer[CountRow]
    events: int
    as_of_position: int
    def __init__(self, rows: _Optional[_Iterable[_Union[CountRow, _Mapping]]] = ..., events: _Optional[int] = ..., as_of_position: _Optional[int] = ...) -> None: ...

class CountRow(_message.Message):
    __slots__ = ("type", "month", "source", "user_id", "events")
    TYPE_FIELD_NUMBER: _ClassVar[int]
    MONTH_FIELD_NUMBER: _ClassVar[int]
    SOURCE_FIELD_NUMBER: _ClassVar[int]
    USER_ID_FIELD_NUMBER: _ClassVar[int]
    EVENTS_FIELD_NUMBER: _ClassVar[int]
    type: str
    month: str
    source: str
    user_id: str
    events: int
    def __init__(self, type: _Optional[str] = ..., month: _Optional[str] = ..., source: _Optional[str] = ..., user_id: _Optional[str] = ..., events: _Optional[int] = ...) -> None: ...
