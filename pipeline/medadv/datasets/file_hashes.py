"""Hashes of input files, remembered by size and time so that a second run reads only what is new."""

import json
from collections.abc import Iterable
from pathlib import Path

from medadv.common.hashing import canonical_json, hash_file
from medadv.datasets.opened import stamp_of
from medadv_transforms.held import held_digest

REMEMBERED = 1 << 15
"""Files that are remembered without a cache: more than the longest series has."""


class FileHashes:
    """SHA-256 of files; `rehash` distrusts what a cache file remembers.

    Without a cache the last files are remembered for this object's life, and read again when anything of their state changed.
    """

    def __init__(self, cache: Path | None, *, rehash: bool = False) -> None:
        self.lasting = cache is not None
        self.known: dict[str, list[int | str]] = {}
        if cache is not None and cache.exists() and not rehash:
            try:
                self.known = json.loads(cache.read_text(encoding="utf-8"))
            except (ValueError, RecursionError):
                self.known = {}  # a damaged cache costs time, nothing else

    def of(self, path: Path) -> str:
        """Hash of a file, read again only when size or modification time changed. OSError where it cannot be read."""
        state = self._state(path)
        name = str(path)
        entry = self.known.get(name)
        if entry is not None and entry[:-1] == state:
            return str(entry[-1])
        digest = held_digest(path) or hash_file(path)
        if not self.lasting and len(self.known) >= REMEMBERED:
            del self.known[next(iter(self.known))]
        self.known[name] = [*state, digest]
        return digest

    def told(self, path: Path) -> str:
        """The hash that was last told of a file, whatever became of the file since. OSError as for `of`."""
        entry = self.known.get(str(path))
        return str(entry[-1]) if entry is not None else self.of(path)

    def same(self, path: Path) -> bool:
        """Whether a file's state is that of its last hash."""
        entry = self.known.get(str(path))
        try:
            return entry is not None and entry[:-1] == self._state(path)
        except OSError:
            return False

    def _state(self, path: Path) -> list[int]:
        status = path.stat()
        # A cache file outlives moves from disk to disk, which give other inodes.
        return [status.st_size, status.st_mtime_ns] if self.lasting else list(stamp_of(status))

    def forget(self, paths: Iterable[Path]) -> None:
        """Drop what is known of files."""
        for path in paths:
            self.known.pop(str(path), None)

    def content(self) -> bytes:
        """What to write to the cache file."""
        return canonical_json(self.known)
