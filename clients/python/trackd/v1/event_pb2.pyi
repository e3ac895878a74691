from google.protobuf.internal import containers as _containers
from google.protobuf.internal import enum_type_wrapper as _enum_type_wrapper
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from collections.abc import Iterable as _Iterable, Mapping as _Mapping
from typing import ClassVar as _ClassVar, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class ChangeAction(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    CHANGE_ACTION_UNSPECIFIED: _ClassVar[ChangeAction]
    CHANGE_ACTION_CREATE: _ClassVar[ChangeAction]
    CHANGE_ACTION_UPDATE: _ClassVar[ChangeAction]
    CHANGE_ACTION_DELETE: _ClassVar[ChangeAction]

class ChangeStatus(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    CHANGE_STATUS_UNSPECIFIED: _ClassVar[ChangeStatus]
    CHANGE_STATUS_SUCCESS: _ClassVar[ChangeStatus]
    CHANGE_STATUS_FAILED: _ClassVar[ChangeStatus]
CHANGE_ACTION_UNSPECIFIED: ChangeAction
CHANGE_ACTION_CREATE: ChangeAction
CHANGE_ACTION_UPDATE: ChangeAction
CHANGE_ACTION_DELETE: ChangeAction
CHANGE_STATUS_UNSPECIFIED: ChangeStatus
CHANGE_STATUS_SUCCESS: ChangeStatus
CHANGE_STATUS_FAILED: ChangeStatus

class Event(_message.Message):
    __slots__ = ("id", "type", "user_id", "timestamp_ms", "session_id", "client_ip", "description", "tags", "metadata", "change")
    ID_FIELD_NUMBER: _ClassVar[int]
    TYPE_FIELD_NUMBER: _ClassVar[int]
    USER_ID_FIELD_NUMBER: _ClassVar[int]
    TIMESTAMP_MS_FIELD_NUMBER: _ClassVar[int]
    SESSION_ID_FIELD_NUMBER: _ClassVar[int]
    CLIENT_IP_FIELD_NUMBER: _ClassVar[int]
    DESCRIPTION_FIELD_NUMBER: _ClassVar[int]
    TAGS_FIELD_NUMBER: _ClassVar[int]
    METADATA_FIELD_NUMBER: _ClassVar[int]
    CHANGE_FIELD_NUMBER: _ClassVar[int]
    id: bytes
    type: str
    user_id: str
    timestamp_ms: int
    session_id: str
    client_ip: str
    description: str
    tags: _containers.RepeatedScalarFieldContainer[str]
    metadata: str
    change: Change
    def __init__(self, id: _Optional[bytes] = ..., type: _Optional[str] = ..., user_id: _Optional[str] = ..., timestamp_ms: _Optional[int] = ..., session_id: _Optional[str] = ..., client_ip: _Optional[str] = ..., description: _Optional[str] = ..., tags: _Optional[_Iterable[str]] = ..., metadata: _Optional[str] = ..., change: _Optional[_Union[Change, _Mapping]] = ...) -> None: ...

class Change(_message.Message):
    __slots__ = ("table_name", "row_id", "action", "old_values", "new_values", "status", "rows_affected")
    TABLE_NAME_FIELD_NUMBER: _ClassVar[int]
    ROW_ID_FIELD_NUMBER: _ClassVar[int]
    ACTION_FIELD_NUMBER: _ClassVar[int]
    OLD_VALUES_FIELD_NUMBER: _ClassVar[int]
    NEW_VALUES_FIELD_NUMBER: _ClassVar[int]
    STATUS_FIELD_NUMBER: _ClassVar[int]
    ROWS_AFFECTED_FIELD_NUMBER: _ClassVar[int]
    table_name: str
    row_id: str
    action: ChangeAction
    old_values: str
    new_values: str
    status: ChangeStatus
    rows_affected: int
    def __init__(self, table_name: _Optional[str] = ..., row_id: _Optional[str] = ..., action: _Optional[_Union[ChangeAction, str]] = ..., old_values: _Optional[str] = ..., new_values: _Optional[str] = ..., status: _Optional[_Union[ChangeStatus, str]] = ..., rows_affected: _Optional[int] = ...) -> None: ...

class StoredEvent(_message.Message):
    __slots__ = ("position", "event", "source", "received_ms")
    POSITION_FIELD_NUMBER: _ClassVar[int]
    EVENT_FIELD_NUMBER: _ClassVar[int]
    SOURCE_FIELD_NUMBER: _ClassVar[int]
    RECEIVED_MS_FIELD_NUMBER: _ClassVar[int]
    position: int
    event: Event
    source: str
    received_ms: int
    def __init__(self, position: _Optional[int] = ..., event: _Optional[_Union[Event, _Mapping]] = ..., source: _Optional[str] = ..., received_ms: _Optional[int] = ...) -> None: ...
