from google.protobuf.internal import containers as _containers
from google.protobuf.internal import enum_type_wrapper as _enum_type_wrapper
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from collections.abc import Iterable as _Iterable, Mapping as _Mapping
from typing import ClassVar as _ClassVar, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class RetentionJobState(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    RETENTION_JOB_STATE_UNSPECIFIED: _ClassVar[RetentionJobState]
    RETENTION_JOB_STATE_RUNNING: _ClassVar[RetentionJobState]
    RETENTION_JOB_STATE_DONE: _ClassVar[RetentionJobState]
    RETENTION_JOB_STATE_FAILED: _ClassVar[RetentionJobState]
    RETENTION_JOB_STATE_CANCELLED: _ClassVar[RetentionJobState]
RETENTION_JOB_STATE_UNSPECIFIED: RetentionJobState
RETENTION_JOB_STATE_RUNNING: RetentionJobState
RETENTION_JOB_STATE_DONE: RetentionJobState
RETENTION_JOB_STATE_FAILED: RetentionJobState
RETENTION_JOB_STATE_CANCELLED: RetentionJobState

class PlanRequest(_message.Message):
    __slots__ = ("accepted",)
    ACCEPTED_FIELD_NUMBER: _ClassVar[int]
    accepted: _containers.RepeatedScalarFieldContainer[str]
    def __init__(self, accepted: _Optional[_Iterable[str]] = ...) -> None: ...

class PlanResponse(_message.Message):
    __slots__ = ("plan", "text")
    PLAN_FIELD_NUMBER: _ClassVar[int]
    TEXT_FIELD_NUMBER: _ClassVar[int]
    plan: str
    text: str
    def __init__(self, plan: _Optional[str] = ..., text: _Optional[str] = ...) -> None: ...

class ApplyRequest(_message.Message):
    __slots__ = ("plan",)
    PLAN_FIELD_NUMBER: _ClassVar[int]
    plan: str
    def __init__(self, plan: _Optional[str] = ...) -> None: ...

class ApplyResponse(_message.Message):
    __slots__ = ("job",)
    JOB_FIELD_NUMBER: _ClassVar[int]
    job: RetentionJob
    def __init__(self, job: _Optional[_Union[RetentionJob, _Mapping]] = ...) -> None: ...

class RetentionJob(_message.Message):
    __slots__ = ("number", "plan_id", "actor", "started_ms", "state", "action", "actions", "rows", "of_rows", "what", "receipt", "reason", "problem")
    NUMBER_FIELD_NUMBER: _ClassVar[int]
    PLAN_ID_FIELD_NUMBER: _ClassVar[int]
    ACTOR_FIELD_NUMBER: _ClassVar[int]
    STARTED_MS_FIELD_NUMBER: _ClassVar[int]
    STATE_FIELD_NUMBER: _ClassVar[int]
    ACTION_FIELD_NUMBER: _ClassVar[int]
    ACTIONS_FIELD_NUMBER: _ClassVar[int]
    ROWS_FIELD_NUMBER: _ClassVar[int]
    OF_ROWS_FIELD_NUMBER: _ClassVar[int]
    WHAT_FIELD_NUMBER: _ClassVar[int]
    RECEIPT_FIELD_NUMBER: _ClassVar[int]
    REASON_FIELD_NUMBER: _ClassVar[int]
    PROBLEM_FIELD_NUMBER: _ClassVar[int]
    number: int
    plan_id: str
    actor: str
    started_ms: int
    state: RetentionJobState
    action: int
    actions: int
    rows: int
    of_rows: int
    what: str
    receipt: str
    reason: str
    problem: str
    def __init__(self, number: _Optional[int] = ..., plan_id: _Optional[str] = ..., actor: _Optional[str] = ..., started_ms: _Optional[int] = ..., state: _Optional[_Union[RetentionJobState, str]] = ..., action: _Optional[int] = ..., actions: _Optional[int] = ..., rows: _Optional[int] = ..., of_rows: _Optional[int] = ..., what: _Optional[str] = ..., receipt: _Optional[str] = ..., reason: _Optional[str] = ..., problem: _Optional[str] = ...) -> None: ...

class WatchJobRequest(_message.Message):
    __slots__ = ("number",)
    NUMBER_FIELD_NUMBER: _ClassVar[int]
    number: int
    def __init__(self, number: _Optional[int] = ...) -> None: ...

class WatchJobResponse(_message.Message):
    __slots__ = ("job",)
    JOB_FIELD_NUMBER: _ClassVar[int]
    job: RetentionJob
    def __init__(self, job: _Optional[_Union[RetentionJob, _Mapping]] = ...) -> None: ...

class ListJobsRequest(_message.Message):
    __slots__ = ()
    def __init__(self) -> None: ...

class ListJobsResponse(_message.Message):
    __slots__ = ("jobs",)
    JOBS_FIELD_NUMBER: _ClassVar[int]
    jobs: _containers.RepeatedCompositeFieldContainer[RetentionJob]
    def __init__(self, jobs: _Optional[_Iterable[_Union[RetentionJob, _Mapping]]] = ...) -> None: ...

class CancelJobRequest(_message.Message):
    __slots__ = ("number",)
    NUMBER_FIELD_NUMBER: _ClassVar[int]
    number: int
    def __init__(self, number: _Optional[int] = ...) -> None: ...

class CancelJobResponse(_message.Message):
    __slots__ = ()
    def __init__(self) -> None: ...

class AgreeToPlanRequest(_message.Message):
    __slots__ = ("plan_id",)
    PLAN_ID_FIELD_NUMBER: _ClassVar[int]
    plan_id: str
    def __init__(self, plan_id: _Optional[str] = ...) -> None: ...

class AgreeToPlanResponse(_message.Message):
    __slots__ = ()
    def __init__(self) -> None: ...

class GetRetentionStatusRequest(_message.Message):
    __slots__ = ()
    def __init__(self) -> None: ...

class GetRetentionStatusResponse(_message.Message):
    __slots__ = ("policy", "overdue", "next_run_ms", "evidence_sequence", "evidence_digest", "events", "months", "without_policy")
    POLICY_FIELD_NUMBER: _ClassVar[int]
    OVERDUE_FIELD_NUMBER: _ClassVar[int]
    NEXT_RUN_MS_FIELD_NUMBER: _ClassVar[int]
    EVIDENCE_SEQUENCE_FIELD_NUMBER: _ClassVar[int]
    EVIDENCE_DIGEST_FIELD_NUMBER: _ClassVar[int]
    EVENTS_FIELD_NUMBER: _ClassVar[int]
    MONTHS_FIELD_NUMBER: _ClassVar[int]
    WITHOUT_POLICY_FIELD_NUMBER: _ClassVar[int]
    policy: str
    overdue: _containers.RepeatedCompositeFieldContainer[RetentionOverdue]
    next_run_ms: int
    evidence_sequence: int
    evidence_digest: str
    events: int
    months: int
    without_policy: _containers.RepeatedScalarFieldContainer[str]
    def __init__(self, policy: _Optional[str] = ..., overdue: _Optional[_Iterable[_Union[RetentionOverdue, _Mapping]]] = ..., next_run_ms: _Optional[int] = ..., evidence_sequence: _Optional[int] = ..., evidence_digest: _Optional[str] = ..., events: _Optional[int] = ..., months: _Optional[int] = ..., without_policy: _Optional[_Iterable[str]] = ...) -> None: ...

class RetentionOverdue(_message.Message):
    __slots__ = ("class_name", "since_ms", "months", "rows", "where")
    CLASS_NAME_FIELD_NUMBER: _ClassVar[int]
    SINCE_MS_FIELD_NUMBER: _ClassVar[int]
    MONTHS_FIELD_NUMBER: _ClassVar[int]
    ROWS_FIELD_NUMBER: _ClassVar[int]
    WHERE_FIELD_NUMBER: _ClassVar[int]
    class_name: str
    since_ms: int
    months: int
    rows: int
    where: _containers.RepeatedScalarFieldContainer[str]
    def __init__(self, class_name: _Optional[str] = ..., since_ms: _Optional[int] = ..., months: _Optional[int] = ..., rows: _Optional[int] = ..., where: _Optional[_Iterable[str]] = ...) -> None: ...

class ListMonthsRequest(_message.Message):
    __slots__ = ()
    def __init__(self) -> None: ...

class ListMonthsResponse(_message.Message):
    __slots__ = ("months",)
    MONTHS_FIELD_NUMBER: _ClassVar[int]
    months: _containers.RepeatedCompositeFieldContainer[RetentionMonth]
    def __init__(self, months: _Optional[_Iterable[_Union[RetentionMonth, _Mapping]]] = ...) -> None: ...

class RetentionMonth(_message.Message):
    __slots__ = ("month", "generation", "digest", "events", "bytes", "classes", "copies")
    MONTH_FIELD_NUMBER: _ClassVar[int]
    GENERATION_FIELD_NUMBER: _ClassVar[int]
    DIGEST_FIELD_NUMBER: _ClassVar[int]
    EVENTS_FIELD_NUMBER: _ClassVar[int]
    BYTES_FIELD_NUMBER: _ClassVar[int]
    CLASSES_FIELD_NUMBER: _ClassVar[int]
    COPIES_FIELD_NUMBER: _ClassVar[int]
    month: str
    generation: int
    digest: str
    events: int
    bytes: int
    classes: _containers.RepeatedCompositeFieldContainer[RetentionClass]
    copies: _containers.RepeatedCompositeFieldContainer[RetentionCopy]
    def __init__(self, month: _Optional[str] = ..., generation: _Optional[int] = ..., digest: _Optional[str] = ..., events: _Optional[int] = ..., bytes: _Optional[int] = ..., classes: _Optional[_Iterable[_Union[RetentionClass, _Mapping]]] = ..., copies: _Optional[_Iterable[_Union[RetentionCopy, _Mapping]]] = ...) -> None: ...

class RetentionClass(_message.Message):
    __slots__ = ("class_name", "state", "events", "held", "anonymous", "steps")
    CLASS_NAME_FIELD_NUMBER: _ClassVar[int]
    STATE_FIELD_NUMBER: _ClassVar[int]
    EVENTS_FIELD_NUMBER: _ClassVar[int]
    HELD_FIELD_NUMBER: _ClassVar[int]
    ANONYMOUS_FIELD_NUMBER: _ClassVar[int]
    STEPS_FIELD_NUMBER: _ClassVar[int]
    class_name: str
    state: str
    events: int
    held: int
    anonymous: bool
    steps: _containers.RepeatedCompositeFieldContainer[RetentionStep]
    def __init__(self, class_name: _Optional[str] = ..., state: _Optional[str] = ..., events: _Optional[int] = ..., held: _Optional[int] = ..., anonymous: bool = ..., steps: _Optional[_Iterable[_Union[RetentionStep, _Mapping]]] = ...) -> None: ...

class RetentionStep(_message.Message):
    __slots__ = ("rule", "due_ms", "due", "done")
    RULE_FIELD_NUMBER: _ClassVar[int]
    DUE_MS_FIELD_NUMBER: _ClassVar[int]
    DUE_FIELD_NUMBER: _ClassVar[int]
    DONE_FIELD_NUMBER: _ClassVar[int]
    rule: str
    due_ms: int
    due: bool
    done: bool
    def __init__(self, rule: _Optional[str] = ..., due_ms: _Optional[int] = ..., due: bool = ..., done: bool = ...) -> None: ...

class RetentionCopy(_message.Message):
    __slots__ = ("name", "kind", "target", "rows", "bytes", "verified")
    NAME_FIELD_NUMBER: _ClassVar[int]
    KIND_FIELD_NUMBER: _ClassVar[int]
    TARGET_FIELD_NUMBER: _ClassVar[int]
    ROWS_FIELD_NUMBER: _ClassVar[int]
    BYTES_FIELD_NUMBER: _ClassVar[int]
    VERIFIED_FIELD_NUMBER: _ClassVar[int]
    name: str
    kind: str
    target: str
    rows: int
    bytes: int
    verified: bool
    def __init__(self, name: _Optional[str] = ..., kind: _Optional[str] = ..., target: _Optional[str] = ..., rows: _Optional[int] = ..., bytes: _Optional[int] = ..., verified: bool = ...) -> None: ...

class ExplainMonthRequest(_message.Message):
    __slots__ = ("month",)
    MONTH_FIELD_NUMBER: _ClassVar[int]
    month: str
    def __init__(self, month: _Optional[str] = ...) -> None: ...

class ExplainMonthResponse(_message.Message):
    __slots__ = ("month",)
    MONTH_FIELD_NUMBER: _ClassVar[int]
    month: RetentionMonth
    def __init__(self, month: _Optional[_Union[RetentionMonth, _Mapping]] = ...) -> None: ...

class RetentionHold(_message.Message):
    __slots__ = ("code", "reason", "users", "types", "sources", "first_month", "last_month", "placed_ms", "released_ms")
    CODE_FIELD_NUMBER: _ClassVar[int]
    REASON_FIELD_NUMBER: _ClassVar[int]
    USERS_FIELD_NUMBER: _ClassVar[int]
    TYPES_FIELD_NUMBER: _ClassVar[int]
    SOURCES_FIELD_NUMBER: _ClassVar[int]
    FIRST_MONTH_FIELD_NUMBER: _ClassVar[int]
    LAST_MONTH_FIELD_NUMBER: _ClassVar[int]
    PLACED_MS_FIELD_NUMBER: _ClassVar[int]
    RELEASED_MS_FIELD_NUMBER: _ClassVar[int]
    code: str
    reason: str
    users: _containers.RepeatedScalarFieldContainer[str]
    types: _containers.RepeatedScalarFieldContainer[str]
    sources: _containers.RepeatedScalarFieldContainer[str]
    first_month: str
    last_month: str
    placed_ms: int
    released_ms: int
    def __init__(self, code: _Optional[str] = ..., reason: _Optional[str] = ..., users: _Optional[_Iterable[str]] = ..., types: _Optional[_Iterable[str]] = ..., sources: _Optional[_Iterable[str]] = ..., first_month: _Optional[str] = ..., last_month: _Optional[str] = ..., placed_ms: _Optional[int] = ..., released_ms: _Optional[int] = ...) -> None: ...

class ListHoldsRequest(_message.Message):
    __slots__ = ()
    def __init__(self) -> None: ...

class ListHoldsResponse(_message.Message):
    __slots__ = ("holds",)
    HOLDS_FIELD_NUMBER: _ClassVar[int]
    holds: _containers.RepeatedCompositeFieldContainer[RetentionHold]
    def __init__(self, holds: _Optional[_Iterable[_Union[RetentionHold, _Mapping]]] = ...) -> None: ...

class PlaceHoldRequest(_message.Message):
    __slots__ = ("hold",)
    HOLD_FIELD_NUMBER: _ClassVar[int]
    hold: RetentionHold
    def __init__(self, hold: _Optional[_Union[RetentionHold, _Mapping]] = ...) -> None: ...

class PlaceHoldResponse(_message.Message):
    __slots__ = ("hold",)
    HOLD_FIELD_NUMBER: _ClassVar[int]
    hold: RetentionHold
    def __init__(self, hold: _Optional[_Union[RetentionHold, _Mapping]] = ...) -> None: ...

class ReleaseHoldRequest(_message.Message):
    __slots__ = ("code",)
    CODE_FIELD_NUMBER: _ClassVar[int]
    code: str
    def __init__(self, code: _Optional[str] = ...) -> None: ...

class ReleaseHoldResponse(_message.Message):
    __slots__ = ("hold",)
    HOLD_FIELD_NUMBER: _ClassVar[int]
    hold: RetentionHold
    def __init__(self, hold: _Optional[_Union[RetentionHold, _Mapping]] = ...) -> None: ...

class ListEvidenceRequest(_message.Message):
    __slots__ = ("after", "limit")
    AFTER_FIELD_NUMBER: _ClassVar[int]
    LIMIT_FIELD_NUMBER: _ClassVar[int]
    after: int
    limit: int
    def __init__(self, after: _Optional[int] = ..., limit: _Optional[int] = ...) -> None: ...

class ListEvidenceResponse(_message.Message):
    __slots__ = ("lines",)
    LINES_FIELD_NUMBER: _ClassVar[int]
    lines: _containers.RepeatedScalarFieldContainer[str]
    def __init__(self, lines: _Optional[_Iterable[str]] = ...) -> None: ...
