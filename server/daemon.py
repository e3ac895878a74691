"""The daemon: opens the store, serves, and stops without losing or leaving open anything."""

from __future__ import annotations

import asyncio
import gc
import json
import math
import os
import resource
import signal
import sys
import time
from collections import deque
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import structlog

from server import logs
from server.config import Config
from server.errors import ConfigurationError, TrackdError
from server.exporter import Exporter
from server.ingest.admission import Admission
from server.ingest.event_types import EventTypes
from server.ingest.service import IngestService
from server.ingest.writer import Writer
from server.metrics.gauges import Gauges
from server.metrics.observer import PrometheusObserver
from server.model import MonthState, Size
from server.observe import Observer
from server.query.readers import Readers
from server.query.service import QueryService
from server.reload import Reloader
from server.retention.archives import ParquetArchives
from server.retention.endings import overdue_seconds
from server.retention.policy_in_use import PolicyInUse
from server.retention.schedule import Scheduler
from server.retention.service import RetentionService
from server.rotation import Rotation
from server.rpc.control import ControlSocket
from server.rpc.server import RpcServer
from server.security.guards import Guards
from server.storage.contract import Store
from server.storage.factory import open_store
from server.subscribe.service import SubscribeService
from server.supervisor import Supervisor

log = structlog.get_logger(__name__)

EXIT_OK = 0
EXIT_STORE_FAILED = 70
"""EX_SOFTWARE of sysexits.h: the supervisor should start the daemon again, which recovers."""

HEARTBEAT_MAX_S = 30.0
"""A writer that has shown no life for so long is stuck."""
TICK_S = 0.5
SIZES_KEPT_S = 0.5
"""With hundreds of months a look at all files takes some milliseconds."""
LAG_WATCHED_S = 60.0
"""A scrape sees the worst of so long: it comes more often than this, and misses no stall."""
SWITCH_INTERVAL_S = 0.0001
OPEN_FILES = 65_536
DRAIN_S = 0.1
GRACE_S = 20.0


class Daemon:
    """One run of the daemon over one store."""

    def __init__(
        self,
        config: Config,
        store: Store,
        guards: Guards,
        read_again: Callable[[], Config],
        observer: Observer | None = None,
        supervisor: Supervisor | None = None,
    ) -> None:
        """`observer` is told what happens instead of the metrics, which then have gauges only.

        `read_again`: see serve.
        """
        self._config = config
        self._store = store
        self._guards = guards
        self._supervisor = supervisor or Supervisor({}, pid=os.getpid())
        self._stop = asyncio.Event()
        self._failed: TrackdError | None = None
        self._ready = False
        self._loop_lags_s = deque([0.0], maxlen=round(LAG_WATCHED_S / TICK_S))
        self._sized_at = -math.inf
        self._sizes_then: Mapping[str, Size] = {}
        metrics = PrometheusObserver(self._gauges(), objectives=config.objective)
        observer = observer or metrics
        self._types = types = EventTypes(
            store.event_types(), open_registry=config.ingest.open_registry, types_max=config.limits.types_max
        )
        admission = Admission(config.limits, types, _now_ms)
        self._writer = Writer(store, admission, config.ingest, config.limits, observer, self._fail)
        self._ingest = ingest = IngestService(config, store, self._writer, types, observer)
        self._readers = Readers(store, config.query, observer)
        query = QueryService(
            store,
            self._readers,
            answer_rows_max=config.query.answer_rows_max,
            open_registry=config.ingest.open_registry,
        )
        self._subscribe = SubscribeService(store, config.subscribe, observer)
        self._writer.committed = self._subscribe.moved
        self._retention = self._retention_service(observer)
        self._writer.reopens = self._retention.reopens
        types.has_policy = self._retention.policy.covers
        self._scheduler = Scheduler(self._retention, _now_ms)
        self._rotation = Rotation(store, self._writer.call, config.rotation)
        self.rpc = RpcServer(
            config.listen.grpc,
            ingest,
            query,
            self._subscribe,
            config.limits,
            config.doors,
            observer,
            guards.access,
            guards.certificates,
            self._retention,
            ControlSocket(
                Path(config.listen.control or Path(config.data, "control.sock")), chosen=bool(config.listen.control)
            ),
        )
        self.exporter = Exporter(
            config.listen.metrics,
            metrics.registry,
            alive=self._alive,
            ready=lambda: self._ready,
            tls=lambda: guards.certificates.current.https if guards.certificates else None,
        )
        self._reloader = Reloader(
            config, read_again, guards, observer, apply=self._apply, withdraw=self.rpc.gate.withdraw
        )

    def _retention_service(self, observer: Observer) -> RetentionService:
        config, data = self._config, Path(self._config.data)
        return RetentionService(
            self._store,
            self._writer.call,
            PolicyInUse(Path(config.retention.policy) if config.retention.policy else None),
            data / "receipts",
            ParquetArchives(self._store, data, _now_ms),
            now_ms=_now_ms,
            quiet_s=config.rotation.quiet_minutes * 60,
            rows_per_second=lambda: self._config.retention.rows_per_second_max,
            observer=observer,
        )

    def _gauges(self) -> Gauges:
        storage, store = self._config.storage, self._store
        return Gauges(
            ready=lambda: self._ready,
            queue_events=lambda: self._writer.queue_events,
            queue_events_max=lambda: self._config.limits.queue_events_max,
            queue_bytes=lambda: self._writer.queue_bytes,
            queue_bytes_max=lambda: self._config.limits.queue_bytes_max,
            ingest_streams=lambda: self.rpc.ingest_streams,
            queries_waiting=lambda: self._readers.waiting,
            queries_waiting_max=lambda: self._config.query.waiting_max,
            head=lambda: store.head,
            months=lambda: len(store.months()),
            months_max=lambda: self._config.limits.months_max,
            months_damaged=lambda: sum(info.state is MonthState.DAMAGED for info in store.months()),
            month_rows=lambda: {state: size.rows for state, size in self._sizes().items()},
            month_bytes=lambda: {state: size.bytes for state, size in self._sizes().items()},
            event_types=lambda: len(self._types.known),
            event_types_max=lambda: self._config.limits.types_max,
            fold_lag_events=lambda: store.tail_events,
            fold_lag_events_max=lambda: storage.tail_events_max,
            months_unindexed=lambda: store.months_unindexed,
            months_unmerged=lambda: store.months_unmerged,
            wal_bytes=lambda: store.wal_bytes,
            wal_bytes_max=lambda: storage.wal_bytes_max,
            disk_free_bytes=lambda: store.disk_free_bytes,
            disk_free_bytes_min=lambda: storage.disk_free_bytes_min,
            event_loop_lag_seconds=lambda: max(tuple(self._loop_lags_s)),
            subscribers=lambda: self._subscribe.streams,
            subscriber_lag_events=lambda: self._subscribe.lag,
            certificate_start_seconds=self._guards.certificate_start_s,
            certificate_expiry_seconds=self._guards.certificate_expiry_s,
            client_ca_expiry_seconds=self._guards.client_ca_expiry_s,
            token_expiry_seconds=self._guards.token_expiry_s,
            retention_last_success=lambda: _seconds(self._retention.endings.success_ms),
            retention_last_failure=lambda: _seconds(self._retention.endings.failure_ms),
            retention_overdue_seconds=lambda: overdue_seconds(self._retention.overdue_since_ms, _now_ms()),
        )

    def _sizes(self) -> Mapping[str, Size]:
        """All states, also those that no month is in. Looked up once a scrape, for all series that come from it."""
        now = time.monotonic()
        if now - self._sized_at > SIZES_KEPT_S:
            nothing = {state.value: Size(0, 0) for state in MonthState}
            self._sizes_then = nothing | {state.value: size for state, size in self._store.sizes().items()}
            self._sized_at = now
        return self._sizes_then

    async def run(self, announce: Callable[[Daemon], None]) -> int:
        """Serves until a signal or a failure; returns the exit code of the process."""
        loop = asyncio.get_running_loop()
        loop.set_exception_handler(_loop_failed)
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, self._stop.set)
        loop.add_signal_handler(signal.SIGHUP, self._reloader.everything)
        self.exporter.start()
        await self.rpc.start()
        await self._update_health()
        announce(self)
        self._supervisor.ready()
        # With a policy it is the policy that says when months are sealed.
        rotating = self._scheduler.run() if self._retention.policy else self._rotation.run()
        tasks = [asyncio.create_task(self._watch()), asyncio.create_task(rotating)]
        await self._stop.wait()
        for task in tasks:
            task.cancel()
        return await self._shut_down()

    async def _shut_down(self) -> int:
        self._ready = False
        log.info("stopping", reason="store failed" if self._failed else "asked to")
        self._supervisor.stopping("the store failed" if self._failed else "answering what is in flight")
        self._writer.drain()
        await self._retention.stop()
        await self._rotation.stop()
        await self.rpc.stop(drain_s=0.0 if self._failed else DRAIN_S, grace_s=1.0 if self._failed else GRACE_S)
        await self._writer.close()
        await self._readers.close()
        await self._subscribe.stop()
        self.exporter.close()
        if self._failed:
            log.critical("store_failed", reason=self._failed.reason, problem=str(self._failed))
            return EXIT_STORE_FAILED
        self._store.close()
        log.info("stopped", head=self._store.head)
        return EXIT_OK

    async def _watch(self) -> None:
        """Measures how late the loop is, keeps health true to the disk, and shows that loop and writer live."""
        while True:
            due = time.monotonic() + TICK_S
            await asyncio.sleep(TICK_S)
            self._loop_lags_s.append(max(0.0, time.monotonic() - due))
            self._reloader.look()
            await self._update_health()
            self._supervisor.alive(self._writer.heartbeat)

    def _apply(self, config: Config) -> None:
        """Takes over what may change while the daemon runs: reload.LIVE."""
        self._config = config
        logs.set_level(config.log.level)
        self._guards.access.client_roles = config.access.client_roles
        self._types.types_max = config.limits.types_max
        self._ingest.reconfigure(config)
        self._writer.reconfigure(config.limits)
        self._readers.reconfigure(config.query)
        self._subscribe.reconfigure(config.subscribe)

    async def _update_health(self) -> None:
        writable = self._writer.full is None and self._failed is None
        await self.rpc.set_serving(ingest_serving=writable, query_serving=self._failed is None)
        self._ready = writable
        full = self._writer.full
        self._supervisor.status(f"refusing events: {full.reason}" if full else f"serving on {self.rpc.address}")

    def _fail(self, error: TrackdError) -> None:
        self._failed = error
        self._stop.set()

    def _alive(self) -> bool:
        return self._failed is None and time.monotonic() - self._writer.heartbeat < HEARTBEAT_MAX_S


def _loop_failed(_loop: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:
    """What nobody waited for has failed. asyncio's own words for it would show arguments, which may be events."""
    log.error("loop_exception", said=logs.leading_words(context["message"]), exc_info=context.get("exception"))


def _now_ms() -> int:
    return time.time_ns() // 1_000_000


def _seconds(milliseconds: Mapping[str, int]) -> Mapping[str, float]:
    return {word: value / 1000 for word, value in milliseconds.items()}


def _allow_open_files() -> None:
    """Up to what the operator permits: each month that is open takes three, each connection one."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = OPEN_FILES if hard == resource.RLIM_INFINITY else min(OPEN_FILES, hard)
    resource.setrlimit(resource.RLIMIT_NOFILE, (max(soft, wanted), hard))


def serve(
    config: Config,
    *,
    ready_file: Path | None = None,
    announce: Callable[[Daemon], None] = lambda _: None,
    observer: Observer | None = None,
    read_again: Callable[[], Config] | None = None,
    supervisor: Supervisor | None = None,
) -> int:
    """Opens the store and serves until told to stop; returns the exit code.

    `ready_file` receives {"grpc": "host:port", "metrics": "host:port", "pid": n} once everything is served; it appears
    whole or not at all. `observer`: see Daemon. `read_again` reads the settings once more, when SIGHUP asks for it; it
    raises ConfigurationError. `supervisor` is told how it goes.
    """
    # Decoding makes thousands of short-lived objects a batch and hardly a cycle: the collector would run for nothing
    # after every 700 of them (measured: 8 % of the ingest rate).
    gc.freeze()
    gc.set_threshold(100_000, 20, 100)
    # The loop, the writer and questions want the interpreter lock for less than a millisecond at a time; the default of
    # 5 ms makes each wait for the others that long (DESIGN.md).
    sys.setswitchinterval(SWITCH_INTERVAL_S)
    _allow_open_files()
    # Whoever asks for new settings must not kill a daemon that is still opening its store.
    signal.signal(signal.SIGHUP, signal.SIG_IGN)
    guards = Guards(config)
    started = time.monotonic()
    if supervisor:
        supervisor.status("opening the store")
    store = open_store("sqlite", config)
    log.info(
        "store_open",
        data=config.data,
        head=store.head,
        months=len(store.months()),
        seconds=round(time.monotonic() - started, 3),
    )

    def ready(daemon: Daemon) -> None:
        log.info("serving", grpc=daemon.rpc.address, metrics=daemon.exporter.address)
        if ready_file:
            words = {"grpc": daemon.rpc.address, "metrics": daemon.exporter.address, "pid": os.getpid()}
            partial = ready_file.with_name(ready_file.name + ".partial")
            partial.write_text(json.dumps(words), "utf-8")
            partial.replace(ready_file)
        announce(daemon)

    async def run() -> int:
        return await Daemon(config, store, guards, read_again or (lambda: config), observer, supervisor).run(ready)

    try:
        code = asyncio.run(run())
    except ConfigurationError:
        store.close()
        raise
    if code == EXIT_STORE_FAILED:
        # Without the clean-up of the interpreter: closing the files could write what the disk just refused to keep.
        os._exit(code)
    return code
