"""What changes while the daemon runs: settings at SIGHUP, tokens and certificates also when their files change.

What cannot be used changes nothing: it is logged, counted, and what was before holds on.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator

import msgspec
import structlog

from server.config import Config, problems_of
from server.errors import ConfigurationError
from server.observe import Observer, Reloadable, Reloaded
from server.security.guards import Guards

log = structlog.get_logger(__name__)

LIVE = frozenset(
    {
        "access.client_roles",
        "ingest.allow_accepted",
        "limits.queue_bytes_max",
        "limits.queue_events_max",
        "limits.sources_max",
        "limits.types_max",
        "log.level",
        "query.timeout_max_ms",
        "query.waiting_max",
        "retention.rows_per_second_max",
        "subscribe.streams_max",
    }
)
"""Settings that are taken over without a restart. Not among them: what streams were told when they opened, what sizes
threads and files, and what decides who may connect at all."""


class Reloader:
    """Reads again, on the event loop. Files are small: each takes a millisecond or two."""

    def __init__(
        self,
        config: Config,
        read: Callable[[], Config],
        guards: Guards,
        observer: Observer,
        *,
        apply: Callable[[Config], None],
        withdraw: Callable[[], None],
    ) -> None:
        """`read` reads the settings as at the start; `apply` gets those that hold from now on.

        Of those only keys in LIVE have changed. `withdraw` is called when permissions may have been taken away.
        """
        self.config = config
        self._read = read
        self._guards = guards
        self._observer = observer
        self._apply = apply
        self._withdraw = withdraw

    def everything(self) -> None:
        """SIGHUP: reads all of it, changed or not."""
        self._attempt(Reloadable.SETTINGS, self._settings)
        if self._guards.has_tokens:
            self._tokens()
        if self._guards.certificates:
            self._certificates()
        self._guards.warn_of_exposed_files()

    def look(self) -> None:
        """To be called about once a second: takes over tokens and certificates that have changed, ends what expired."""
        if self._guards.tokens_changed():
            self._tokens()
        if self._guards.certificates and self._guards.certificates.changed():
            self._certificates()
        self._withdraw()

    def _tokens(self) -> None:
        self._attempt(Reloadable.TOKENS, self._guards.reload_tokens)
        self._withdraw()

    def _certificates(self) -> None:
        if files := self._guards.certificates:
            self._attempt(Reloadable.CERTIFICATES, files.reload)

    def _attempt(self, what: Reloadable, reload: Callable[[], object]) -> None:
        try:
            reload()
        except ConfigurationError as error:
            log.error("reload_failed", what=what.value, reason=error.reason, problem=error.message, hint=error.hint)
            self._observer.reloaded(Reloaded(what, ok=False))
        except Exception:  # whatever it is, the daemon goes on with what it has
            log.exception("reload_failed", what=what.value)
            self._observer.reloaded(Reloaded(what, ok=False))
        else:
            log.info("reloaded", what=what.value)
            self._observer.reloaded(Reloaded(what, ok=True))

    def _settings(self) -> None:
        wanted = self._read()
        changed = set(differences(self.config, wanted))
        taken = changed & LIVE
        config = with_keys(self.config, wanted, taken)
        if problems := [f"{key}: {text}" for key, text in problems_of(config)]:
            raise ConfigurationError(
                "CONFIG_INVALID",
                "with the keys that need a restart as they are: " + "; ".join(problems),
                hint="restart the daemon, or change the others too",
            )
        self.config = config
        self._apply(config)
        self._withdraw()
        if taken:
            log.info("settings_changed", keys=sorted(taken))
        if waiting := sorted(changed - LIVE):
            log.warning("settings_need_restart", keys=waiting)


def differences(one: Config, other: Config) -> Iterator[str]:
    """The keys, as section.key, that differ."""
    for name in one.__struct_fields__:
        before, after = getattr(one, name), getattr(other, name)
        if isinstance(before, msgspec.Struct):
            for key in before.__struct_fields__:
                if getattr(before, key) != getattr(after, key):
                    yield f"{name}.{key}"
        elif before != after:
            yield name


def with_keys(config: Config, other: Config, keys: Collection[str]) -> Config:
    """`config` with these keys, as section.key, as they are in `other`."""
    for dotted in keys:
        name, _dot, key = dotted.partition(".")
        section = msgspec.structs.replace(getattr(config, name), **{key: getattr(getattr(other, name), key)})
        config = msgspec.structs.replace(config, **{name: section})
    return config
