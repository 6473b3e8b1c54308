"""Hashes of input files, remembered by size and time so that a second run reads only what is new."""

import json
from collections.abc import Iterable
from pathlib import Path

from medadv.common.hashing import canonical_json, hash_file
from medadv.datasets.opened import stamp_of

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
            except ValueError:
                self.known = {}  # a damaged cache costs time, nothing else

    def of(self, path: Path) -> str:
        """Hash of a file, read again only when size or modification time changed. OSError where it cannot be read."""
        status = path.stat()
        # A cache file outlives moves from disk to disk, which give other inodes.
        state = [status.st_size, status.st_mtime_ns] if self.lasting else list(stamp_of(status))
        name = str(path)
        entry = self.known.get(name)
        if entry is not None and entry[:-1] == state:
            return str(entry[-1])
        digest = hash_file(path)
        if not self.lasting and len(self.known) >= REMEMBERED:
            del self.known[next(iter(self.known))]
        self.known[name] = [*state, digest]
        return digest

    def forget(self, paths: Iterable[Path]) -> None:
        """Drop what is known of files."""
        for path in paths:
            self.known.pop(str(path), None)

    def content(self) -> bytes:
        """What to write to the cache file."""
        return canonical_json(self.known)
