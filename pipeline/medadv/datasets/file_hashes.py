"""Hashes of input files, remembered by size and time so that a second run reads only what is new."""

import json
from collections.abc import Iterable
from pathlib import Path

from medadv.common.hashing import canonical_json, hash_file


class FileHashes:
    """SHA-256 of files; `rehash` distrusts what a cache file remembers. Without a cache they are remembered for this object's life."""

    def __init__(self, cache: Path | None, *, rehash: bool = False) -> None:
        self.known: dict[str, list[int | str]] = {}
        if cache is not None and cache.exists() and not rehash:
            try:
                self.known = json.loads(cache.read_text(encoding="utf-8"))
            except ValueError:
                self.known = {}  # a damaged cache costs time, nothing else

    def of(self, path: Path) -> str:
        """Hash of a file, read again only when size or modification time changed. OSError where it cannot be read."""
        status = path.stat()
        name = str(path)
        entry = self.known.get(name)
        if entry is not None and entry[:2] == [status.st_size, status.st_mtime_ns]:
            return str(entry[2])
        digest = hash_file(path)
        self.known[name] = [status.st_size, status.st_mtime_ns, digest]
        return digest

    def forget(self, paths: Iterable[Path]) -> None:
        """Drop what is known of files."""
        for path in paths:
            self.known.pop(str(path), None)

    def content(self) -> bytes:
        """What to write to the cache file."""
        return canonical_json(self.known)
