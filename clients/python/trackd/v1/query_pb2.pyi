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

class Operator(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    OPERATOR_UNSPECIFIED: _ClassVar[Operator]
    OPERATOR_IS: _ClassVar[Operator]
    OPERATOR_STARTS_WITH: _ClassVar[Operator]
    OPERATOR_PRESENT: _ClassVar[Operator]
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
OPERATOR_UNSPECIFIED: Operator
OPERATOR_IS: Operator
OPERATOR_STARTS_WITH: Operator
OPERATOR_PRESENT: Operator

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

class Predicate(_message.Message):
    __slots__ = ("all", "any", "compare")
    ALL_FIELD_NUMBER: _ClassVar[int]
    ANY_FIELD_NUMBER: _ClassVar[int]
    NOT_FIELD_NUMBER: _ClassVar[int]
    COMPARE_FIELD_NUMBER: _ClassVar[int]
    all: PredicateList
    any: PredicateList
    compare: Comparison
    def __init__(self, all: _Optional[_Union[PredicateList, _Mapping]] = ..., any: _Optional[_Union[PredicateList, _Mapping]] = ..., compare: _Optional[_Union[Comparison, _Mapping]] = ..., **kwargs) -> None: ...

class PredicateList(_message.Message):
    __slots__ = ("parts",)
    PARTS_FIELD_NUMBER: _ClassVar[int]
    parts: _containers.RepeatedCompositeFieldContainer[Predicate]
    def __init__(self, parts: _Optional[_Iterable[_Union[Predicate, _Mapping]]] = ...) -> None: ...

class Comparison(_message.Message):
    __slots__ = ("field", "operator", "values")
    FIELD_FIELD_NUMBER: _ClassVar[int]
    OPERATOR_FIELD_NUMBER: _ClassVar[int]
    VALUES_FIELD_NUMBER: _ClassVar[int]
    field: str
    operator: Operator
    values: _containers.RepeatedScalarFieldContainer[str]
    def __init__(self, field: _Optional[str] = ..., operator: _Optional[_Union[Operator, str]] = ..., values: _Optional[_Iterable[str]] = ...) -> None: ...

class OrderBy(_message.Message):
    __slots__ = ("column", "descending")
    COLUMN_FIELD_NUMBER: _ClassVar[int]
    DESCENDING_FIELD_NUMBER: _ClassVar[int]
    column: str
    descending: bool
    def __init__(self, column: _Optional[str] = ..., descending: bool = ...) -> None: ...

class AggregateRequest(_message.Message):
    __slots__ = ("metrics", "dimensions", "start_ms", "end_ms", "time_zone", "filter", "order_by", "limit", "include_totals", "include_empty_buckets", "compare_previous_period", "at_least_position")
    METRICS_FIELD_NUMBER: _ClassVar[int]
    DIMENSIONS_FIELD_NUMBER: _ClassVar[int]
    START_MS_FIELD_NUMBER: _ClassVar[int]
    END_MS_FIELD_NUMBER: _ClassVar[int]
    TIME_ZONE_FIELD_NUMBER: _ClassVar[int]
    FILTER_FIELD_NUMBER: _ClassVar[int]
    ORDER_BY_FIELD_NUMBER: _ClassVar[int]
    LIMIT_FIELD_NUMBER: _ClassVar[int]
    INCLUDE_TOTALS_FIELD_NUMBER: _ClassVar[int]
    INCLUDE_EMPTY_BUCKETS_FIELD_NUMBER: _ClassVar[int]
    COMPARE_PREVIOUS_PERIOD_FIELD_NUMBER: _ClassVar[int]
    AT_LEAST_POSITION_FIELD_NUMBER: _ClassVar[int]
    metrics: _containers.RepeatedScalarFieldContainer[str]
    dimensions: _containers.RepeatedScalarFieldContainer[str]
    start_ms: int
    end_ms: int
    time_zone: str
    filter: Predicate
    order_by: _containers.RepeatedCompositeFieldContainer[OrderBy]
    limit: int
    include_totals: bool
    include_empty_buckets: bool
    compare_previous_period: bool
    at_least_position: int
    def __init__(self, metrics: _Optional[_Iterable[str]] = ..., dimensions: _Optional[_Iterable[str]] = ..., start_ms: _Optional[int] = ..., end_ms: _Optional[int] = ..., time_zone: _Optional[str] = ..., filter: _Optional[_Union[Predicate, _Mapping]] = ..., order_by: _Optional[_Iterable[_Union[OrderBy, _Mapping]]] = ..., limit: _Optional[int] = ..., include_totals: bool = ..., include_empty_buckets: bool = ..., compare_previous_period: bool = ..., at_least_position: _Optional[int] = ...) -> None: ...

class AggregateResponse(_message.Message):
    __slots__ = ("question", "columns", "rows", "totals", "more", "warnings", "as_of_position", "read")
    QUESTION_FIELD_NUMBER: _ClassVar[int]
    COLUMNS_FIELD_NUMBER: _ClassVar[int]
    ROWS_FIELD_NUMBER: _ClassVar[int]
    TOTALS_FIELD_NUMBER: _ClassVar[int]
    MORE_FIELD_NUMBER: _ClassVar[int]
    WARNINGS_FIELD_NUMBER: _ClassVar[int]
    AS_OF_POSITION_FIELD_NUMBER: _ClassVar[int]
    READ_FIELD_NUMBER: _ClassVar[int]
    question: AggregateRequest
    columns: _containers.RepeatedCompositeFieldContainer[Column]
    rows: int
    totals: _containers.RepeatedCompositeFieldContainer[Column]
    more: bool
    warnings: _containers.RepeatedScalarFieldContainer[str]
    as_of_position: int
    read: ReadReport
    def __init__(self, question: _Optional[_Union[AggregateRequest, _Mapping]] = ..., columns: _Optional[_Iterable[_Union[Column, _Mapping]]] = ..., rows: _Optional[int] = ..., totals: _Optional[_Iterable[_Union[Column, _Mapping]]] = ..., more: bool = ..., warnings: _Optional[_Iterable[str]] = ..., as_of_position: _Optional[int] = ..., read: _Optional[_Union[ReadReport, _Mapping]] = ...) -> None: ...

class Column(_message.Message):
    __slots__ = ("name", "integers", "reals", "texts", "absent_rows")
    NAME_FIELD_NUMBER: _ClassVar[int]
    INTEGERS_FIELD_NUMBER: _ClassVar[int]
    REALS_FIELD_NUMBER: _ClassVar[int]
    TEXTS_FIELD_NUMBER: _ClassVar[int]
    ABSENT_ROWS_FIELD_NUMBER: _ClassVar[int]
    name: str
    integers: _containers.RepeatedScalarFieldContainer[int]
    reals: _containers.RepeatedScalarFieldContainer[float]
    texts: _containers.RepeatedScalarFieldContainer[str]
    absent_rows: _containers.RepeatedScalarFieldContainer[int]
    def __init__(self, name: _Optional[str] = ..., integers: _Optional[_Iterable[int]] = ..., reals: _Optional[_Iterable[float]] = ..., texts: _Optional[_Iterable[str]] = ..., absent_rows: _Optional[_Iterable[int]] = ...) -> None: ...

class ReadReport(_message.Message):
    __slots__ = ("months", "rollup_cells", "indexed_rows", "tail_rows", "event_rows", "milliseconds", "frozen_cells")
    MONTHS_FIELD_NUMBER: _ClassVar[int]
    ROLLUP_CELLS_FIELD_NUMBER: _ClassVar[int]
    INDEXED_ROWS_FIELD_NUMBER: _ClassVar[int]
    TAIL_ROWS_FIELD_NUMBER: _ClassVar[int]
    EVENT_ROWS_FIELD_NUMBER: _ClassVar[int]
    MILLISECONDS_FIELD_NUMBER: _ClassVar[int]
    FROZEN_CELLS_FIELD_NUMBER: _ClassVar[int]
    months: int
    rollup_cells: int
    indexed_rows: int
    tail_rows: int
    event_rows: int
    milliseconds: float
    frozen_cells: int
    def __init__(self, months: _Optional[int] = ..., rollup_cells: _Optional[int] = ..., indexed_rows: _Optional[int] = ..., tail_rows: _Optional[int] = ..., event_rows: _Optional[int] = ..., milliseconds: _Optional[float] = ..., frozen_cells: _Optional[int] = ...) -> None: ...
