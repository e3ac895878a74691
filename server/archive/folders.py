"""Where archives are put: a local folder, or whatever fsspec has a plugin for."""

from __future__ import annotations

import os
import shutil
import tempfile
from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import IO, Any

from server.archive import extra
from server.archive.places import DRAFTS
from server.errors import Corrupt, TrackdError, Unavailable
from server.write_out import written_out

COPY_BYTES = 4 * 1024 * 1024


class Folder(ABC):
    """A target. Paths are those of `places`. What fails is raised as Unavailable(ARCHIVE_TARGET).

    May be used by several threads.
    """

    def __init__(self, url: str) -> None:
        self.url = url

    def __str__(self) -> str:
        return self.url

    @property
    @abstractmethod
    def scratch(self) -> Path | None:
        """Where there should be room for rows that wait; None: in the system's temporary directory."""

    @abstractmethod
    def create(self, name: str) -> IO[bytes]:
        """An empty file to write into and read from, that nobody sees before `publish`."""

    @abstractmethod
    def publish(self, file: IO[bytes], path: str) -> None:
        """Makes a created file the one at this path: whole, or not at all, and durable at return. Closes it."""

    @abstractmethod
    def fetch(self, path: str) -> IO[bytes]:
        """The file as it is stored, to read. Raises Corrupt(ARCHIVE_INCOMPLETE) if there is none."""

    @abstractmethod
    def remove(self, path: str) -> None:
        """Removes a file, durably. One that is not there is fine."""

    @abstractmethod
    def names(self, folder: str) -> Sequence[str]:
        """The paths of all files below a folder, sorted; none if there is no such folder."""

    def write(self, path: str, content: bytes, name: str) -> None:
        """Puts a small file there, in place of another one if need be: whole, or not at all. Made as `name`."""
        file = self.create(name)
        with _failures(self):
            file.write(content)
        self.publish(file, path)

    def read(self, path: str) -> bytes | None:
        """A small file; None if there is none."""
        try:
            with self.fetch(path) as file:
                return file.read()
        except Corrupt as error:
            if error.reason != "ARCHIVE_INCOMPLETE":
                raise
            return None


def open_folder(url: str, scratch: Path | None = None) -> Folder:
    """The target of a path or URL.

    `scratch`: where files wait that go to a remote target, or come from there; the system's temporary directory by
    default. A local folder is its own. They have no names, so a crash leaves nothing. Raises ConfigurationError if
    fsspec is needed and not installed, Unavailable(ARCHIVE_TARGET) for a URL that it does not know.
    """
    scheme, separator, path = url.partition("://")
    if not separator:
        return LocalFolder(Path(url))
    if scheme in ("file", "local"):
        return LocalFolder(Path(path))
    return RemoteFolder(url, scratch)


class LocalFolder(Folder):
    """A folder of this machine, or mounted here."""

    def __init__(self, root: Path) -> None:
        super().__init__(str(root))
        self._root = root

    @property
    def scratch(self) -> Path:
        """See Folder."""
        with _failures(self):
            _make(self._root)
        return self._root

    def create(self, name: str) -> IO[bytes]:
        """See Folder."""
        with _failures(self):
            path = self._root / DRAFTS / name
            _make(path.parent)
            return path.open("w+b")

    def publish(self, file: IO[bytes], path: str) -> None:
        """See Folder."""
        with _failures(self), file:
            target = self._root / path
            _make(target.parent)
            file.flush()
            written_out(file.fileno())
            os.fsync(file.fileno())
            # What is read back now comes from the disk.
            os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)
            Path(file.name).rename(target)
            _sync(target.parent)

    def fetch(self, path: str) -> IO[bytes]:
        """See Folder."""
        with _failures(self):
            try:
                return (self._root / path).open("rb")
            except FileNotFoundError:
                raise _missing(self, path) from None

    def remove(self, path: str) -> None:
        """See Folder."""
        with _failures(self):
            target = self._root / path
            if target.exists():
                target.unlink()
                _sync(target.parent)
            for folder in target.relative_to(self._root).parents[:-1]:
                try:
                    (self._root / folder).rmdir()
                except OSError:  # it has something in it, or was never there
                    break

    def names(self, folder: str) -> Sequence[str]:
        """See Folder."""
        with _failures(self):
            found = (self._root / folder).rglob("*")
            return sorted(path.relative_to(self._root).as_posix() for path in found if path.is_file())


class RemoteFolder(Folder):
    """What fsspec reaches: s3://, gs://, abfs://, sftp://, memory:// and others, each with its plugin."""

    def __init__(self, url: str, scratch: Path | None) -> None:
        super().__init__(url)
        extra.require("fsspec")
        import fsspec

        self._scratch = scratch
        with _failures(self):
            self._files: Any
            self._files, self._root = fsspec.core.url_to_fs(url)

    @property
    def scratch(self) -> Path | None:
        """See Folder."""
        return self._scratch

    def create(self, name: str) -> IO[bytes]:  # noqa: ARG002 - files without a name leave nothing behind
        """See Folder."""
        with _failures(self):
            return unnamed(self._scratch)

    def publish(self, file: IO[bytes], path: str) -> None:
        """See Folder."""
        with _failures(self), file:
            file.seek(0)
            where = self._at(path)
            self._files.makedirs(where.rpartition("/")[0], exist_ok=True)
            # An object appears when it is closed; a plugin that shows it earlier is why parts are read back.
            with self._files.open(where, "wb") as target:
                shutil.copyfileobj(file, target, COPY_BYTES)

    def fetch(self, path: str) -> IO[bytes]:
        """See Folder."""
        with _failures(self):
            file = unnamed(self._scratch)
            try:
                with self._files.open(self._at(path), "rb") as source:
                    shutil.copyfileobj(source, file, COPY_BYTES)
            except FileNotFoundError:
                file.close()
                raise _missing(self, path) from None
            file.seek(0)
            return file

    def remove(self, path: str) -> None:
        """See Folder."""
        with _failures(self), suppress(FileNotFoundError):
            self._files.rm_file(self._at(path))

    def names(self, folder: str) -> Sequence[str]:
        """See Folder."""
        with _failures(self):
            self._files.invalidate_cache()
            try:
                found = self._files.find(self._at(folder))
            except FileNotFoundError:
                return []
            return sorted(path[len(self._root.rstrip("/")) :].lstrip("/") for path in found)

    def _at(self, path: str) -> str:
        return f"{self._root.rstrip('/')}/{path}"


def unnamed(scratch: Path | None) -> IO[bytes]:
    """A file in a directory (the system's for temporary files, by default) that nobody else sees, gone when closed."""
    return tempfile.TemporaryFile(dir=scratch)


@contextmanager
def _failures(folder: Folder) -> Iterator[None]:
    """Raises trackd's error for those of file systems: plugins have kinds of their own."""
    try:
        yield
    except TrackdError:
        raise
    except Exception as error:
        raise Unavailable(
            "ARCHIVE_TARGET",
            f"{folder}: {type(error).__name__}: {error}",
            hint="look at the target: room, permissions, network, and whether the plugin of fsspec is installed",
        ) from error


def _missing(folder: Folder, path: str) -> Corrupt:
    return Corrupt("ARCHIVE_INCOMPLETE", f"{folder}: {path} is missing", hint="bring it back from a copy of the target")


def _make(folder: Path) -> None:
    """Makes a folder with all above it, durably."""
    if folder.is_dir():
        return
    _make(folder.parent)
    folder.mkdir(exist_ok=True)
    _sync(folder.parent)


def _sync(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
