"""One connection over the files of many months.

Each step of a statement gives the interpreter lock up and waits for it again, beside a busy writer for as long as a
switch takes. One statement over twelve months takes one step.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Mapping
from pathlib import Path

import apsw

from server.storage.sqlite import connection as sqlite

ATTACHED_MAX = 100
"""Below SQLITE_MAX_ATTACHED of the driver, which is 125."""


class Together:
    """Files under names that statements know them by, those that were asked last, a bounded number.

    A name is given to another file when the month has another one by now. Belongs to one thread.
    """

    def __init__(self, *, files_max: int, cache_bytes: int) -> None:
        self._attached: OrderedDict[str, tuple[Path, bool]] = OrderedDict()
        self._cache_bytes = cache_bytes
        self.connection = sqlite.open_nothing()
        limit = self.connection.limit(apsw.SQLITE_LIMIT_ATTACHED)
        self._files_max = min(files_max, limit, ATTACHED_MAX)

    def having(self, files: Mapping[str, tuple[Path, bool]]) -> apsw.Connection:
        """The connection, with these files attached under these names."""
        if len(files) > self._files_max:
            msg = f"{len(files)} files at once; at most {self._files_max}"
            raise ValueError(msg)
        missing = [name for name, file in files.items() if self._attached.get(name) != file]
        for name in files.keys() - missing:
            self._attached.move_to_end(name)
        for name in missing:
            self._attach(name, *files[name])
        return self.connection

    @property
    def files_max(self) -> int:
        """So many files at once."""
        return self._files_max

    def _attach(self, name: str, path: Path, immutable: bool) -> None:  # noqa: FBT001  # it is part of a pair
        if name in self._attached:
            self._detach(name)
        while len(self._attached) >= self._files_max:
            self._detach(next(iter(self._attached)))
        sqlite.attach_reader(self.connection, name, path, cache_bytes=self._cache_bytes, immutable=immutable)
        self._attached[name] = (path, immutable)

    def _detach(self, name: str) -> None:
        del self._attached[name]
        self.connection.execute(f"DETACH {name}")
