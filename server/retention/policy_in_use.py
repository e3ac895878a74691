"""The policy of a running daemon: its file as it is now, read again when it has changed."""

from __future__ import annotations

from pathlib import Path

from retention.policy import Late, Policy
from retention.policy_file import PolicyProblems, parse
from server.errors import Precondition, TrackdError


class PolicyInUse:
    """For any thread. A file that is not sound stops retention, and nothing else."""

    def __init__(self, path: Path | None) -> None:
        """None: there is no policy, and nothing can be planned."""
        self._path = path
        self._read: tuple[tuple[int, int, int], Policy] | None = None
        """The policy as it was read last, and the file that it was in."""

    def __bool__(self) -> bool:
        """Whether a file was named; not whether it is sound."""
        return self._path is not None

    def now(self) -> Policy:
        """The policy as its file is now. Precondition(POLICY_MISSING, POLICY_UNUSABLE)."""
        if self._path is None:
            raise Precondition(
                "POLICY_MISSING",
                "this daemon has no retention policy",
                hint="name one in its settings: [retention] policy = FILE; deploy/retention.toml is an example",
            )
        try:
            about = self._path.stat()
            version = (about.st_mtime_ns, about.st_size, about.st_ino)
            if self._read is None or self._read[0] != version:
                self._read = (version, parse(self._path.read_text("utf-8")))
            return self._read[1]
        except PolicyProblems as error:
            problem = f"the policy has {len(error.problems)} problems, the first: {error.problems[0].problem}"
        except (OSError, UnicodeDecodeError) as error:
            problem = f"the policy cannot be read: {error}"
        raise Precondition("POLICY_UNUSABLE", problem, hint=f"see: trackd retention lint {self._path}")

    def covers(self, event_type: str) -> bool:
        """Whether events of a new type may come. While the policy cannot be read it has no say."""
        try:
            return self._path is None or self.now().class_of(event_type) is not None
        except TrackdError:
            return True

    def takes_late(self, event_type: str) -> bool:
        """Whether a month is opened again for late events of this type."""
        try:
            one = self.now().class_of(event_type) if self._path else None
        except TrackdError:
            return False
        return one is not None and one.late is Late.REOPEN
