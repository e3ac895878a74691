from trackd.cloudevents.v1 import cloudevents_pb2 as _cloudevents_pb2
from trackd.v1 import ingest_pb2 as _ingest_pb2
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from collections.abc import Mapping as _Mapping
from typing import ClassVar as _ClassVar, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class PublishRequest(_message.Message):
    __slots__ = ("source", "batch")
    SOURCE_FIELD_NUMBER: _ClassVar[int]
    BATCH_FIELD_NUMBER: _ClassVar[int]
    source: str
    batch: _cloudevents_pb2.CloudEventBatch
    def __init__(self, source: _Optional[str] = ..., batch: _Optional[_Union[_cloudevents_pb2.CloudEventBatch, _Mapping]] = ...) -> None: ...

class PublishResponse(_message.Message):
    __slots__ = ("result",)
    RESULT_FIELD_NUMBER: _ClassVar[int]
    result: _ingest_pb2.AppendResult
    def __init__(self, result: _Optional[_Union[_ingest_pb2.AppendResult, _Mapping]] = ...) -> None: ...
