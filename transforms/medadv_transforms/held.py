"""Files that are read once and held, so that what is decoded is what was hashed, whatever becomes of the file meanwhile."""

import hashlib
import io
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from pathlib import Path
from typing import BinaryIO

HELD_BYTES = 128 << 20
"""What is held of the files of one sample; those for which there is no room are to be hashed again once they were decoded."""


class HeldFiles:
    """Bytes of files as the decoders saw them.

    digests: SHA-256 of each held file.  unheld: files that were decoded without being held.
    """

    def __init__(self) -> None:
        self.digests: dict[Path, str] = {}
        self.unheld: set[Path] = set()
        self._bytes: dict[Path, bytes] = {}
        self._room = HELD_BYTES

    def take(self, path: Path) -> bytes | None:
        """All bytes of a file, read at most once; None for a file that there is no room for.  OSError where it cannot be read."""
        if path not in self._bytes and path not in self.unheld:
            with path.open("rb") as file:
                # A file may grow between the question for its size and the reading.
                data = file.read(self._room + 1) if path.stat().st_size <= self._room else None
            if data is None or len(data) > self._room:
                self.unheld.add(path)
                return None
            self._bytes[path], self.digests[path] = data, hashlib.sha256(data).hexdigest()
            self._room -= len(data)
        return self._bytes.get(path)

    def size(self, path: Path) -> int:
        """Bytes of what is held of a file, else of the file."""
        return len(self._bytes[path]) if path in self._bytes else path.stat().st_size


class _Named(io.BytesIO):
    """Bytes with the name of their file, as files have it."""

    def __init__(self, data: bytes, path: Path) -> None:
        super().__init__(data)
        self.name = str(path)


_held: ContextVar[HeldFiles | None] = ContextVar("held", default=None)


@contextmanager
def holding() -> Iterator[HeldFiles]:
    """Files that this thread decodes inside are held until the end."""
    held = HeldFiles()
    token = _held.set(held)
    try:
        yield held
    finally:
        _held.reset(token)


def opened_whole(path: Path) -> BinaryIO:
    """A file that is about to be decoded, from what is held of it where files are held.  OSError where it cannot be read."""
    held = _held.get()
    data = held.take(path) if held is not None else None
    return path.open("rb") if data is None else _Named(data, path)


def opened_part(path: Path) -> BinaryIO:
    """A file of which only headers are read: from what is held of it already, else from the disk."""
    held = _held.get()
    return opened_whole(path) if held is not None and path in held.digests else path.open("rb")


def held_digest(path: Path) -> str | None:
    """SHA-256 of a file that is held."""
    held = _held.get()
    return None if held is None else held.digests.get(path)


def size_of(path: Path) -> int:
    """Bytes of a file, of what is held of it where files are held."""
    held = _held.get()
    return path.stat().st_size if held is None else held.size(path)
