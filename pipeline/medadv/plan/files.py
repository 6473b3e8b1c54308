"""Hashes of input files, remembered by size and time so that a second run reads only what is new."""

import json
from pathlib import Path

from medadv.hashing import canonical_json, hash_file


class FileHashes:
    """SHA-256 of files under a root; `rehash` distrusts what was remembered."""

    def __init__(self, cache: Path, root: Path, *, rehash: bool = False) -> None:
        self.cache, self.root = cache, root
        self.known: dict[str, list[int | str]] = {}
        if cache.exists() and not rehash:
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

    def content(self) -> bytes:
        """What to write to the cache file."""
        return canonical_json(self.known)
