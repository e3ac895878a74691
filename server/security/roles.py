"""Roles, and the one table of which method needs which.

It fails closed: a method that stands not in the table is refused to everybody as soon as anybody needs a permission. A
test holds the table against every service that is registered.
"""

from __future__ import annotations

from collections.abc import Mapping

from server.model import Role

OPEN: frozenset[Role] = frozenset()
"""Needs no permission: probes have none to show."""
ANY = frozenset(Role)
_INGEST = frozenset({Role.INGEST, Role.OPERATE})
_READ = frozenset({Role.READ, Role.OPERATE})
OPERATORS = frozenset({Role.OPERATE})
"""What they alone may call is told who is calling."""

ALLOWED: Mapping[str, frozenset[Role]] = {
    "/trackd.v1.IngestService/Append": _INGEST,
    "/trackd.v1.IngestService/AppendStream": _INGEST,
    "/trackd.cloudevents.v1.CloudEventService/Publish": _INGEST,
    "/opentelemetry.proto.collector.logs.v1.LogsService/Export": _INGEST,
    "/trackd.v1.QueryService/ListEvents": _READ,
    "/trackd.v1.QueryService/CountEvents": _READ,
    "/trackd.v1.QueryService/Aggregate": _READ,
    "/trackd.v1.SubscribeService/Subscribe": _READ,
    "/trackd.v1.EventTypeService/ListEventTypes": _READ,
    "/trackd.v1.EventTypeService/DescribeEventType": _READ,
    "/trackd.v1.EventTypeService/RegisterEventType": OPERATORS,
    # Where there are no permissions, all of it only on the daemon's own socket: see server/rpc/server.py.
    **{
        f"/trackd.v1.RetentionService/{method}": OPERATORS
        for method in (
            "Plan",
            "Apply",
            "WatchJob",
            "ListJobs",
            "CancelJob",
            "AgreeToPlan",
            "GetRetentionStatus",
            "ListMonths",
            "ExplainMonth",
            "ListHolds",
            "PlaceHold",
            "ReleaseHold",
            "ListEvidence",
        )
    },
    "/grpc.health.v1.Health/Check": OPEN,
    "/grpc.health.v1.Health/List": OPEN,
    "/grpc.health.v1.Health/Watch": OPEN,
    # The contract is no secret, but strangers get to talk to as little code as possible.
    "/grpc.reflection.v1alpha.ServerReflection/ServerReflectionInfo": ANY,
}
"""Method as in the path of HTTP/2 -> the roles of which one suffices."""
