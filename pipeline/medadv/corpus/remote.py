"""How is a corpus opened that lies at an address? Its manifest is fetched and kept; its shards come one by one, when they are read."""

import warnings
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

from medadv.common.cache import Cache, Fill
from medadv.common.errors import FetchError, IntegrityError, NotThereError, SpecError
from medadv.common.files import write_file
from medadv.common.hashing import hash_bytes
from medadv.common.remote import TRIES, Address, fetch, read_small
from medadv.corpus.folder import MANIFEST, Workspace
from medadv.corpus.manifest import Manifest, ShardEntry, read_manifest

MANIFEST_LIMIT = 512 << 20
"""Bytes of a manifest: some million shards."""
HASH_LIMIT = 4096


@dataclass(frozen=True)
class RemoteCorpus:
    """A corpus at an address, as its manifest was when it was opened. It can be pickled, and used by processes that were forked."""

    address: Address
    root: Path
    """Folder of this machine that holds the manifest."""
    manifest: Manifest
    cache: Cache

    def path(self, entry: ShardEntry) -> Path:
        """Where a shard lies while the cache holds it."""
        return self.cache.path(entry.sha256)

    def fill(self, entry: ShardEntry) -> Fill:
        """What the cache is filled with."""

        def write(target: BinaryIO) -> None:
            fetch(self.address, entry.path, target, entry.bytes, entry.sha256)

        return write


def open_remote(text: str, folder: str | Path | None = None, limit: int | None = None) -> RemoteCorpus:
    """The corpus at an address.

    Args:
        text: of the folder, or of its manifest.json.
        folder: of the cache; see `Cache`.
        limit: bytes of the cache.

    Raises:
        FetchError: nothing is there, or it cannot be reached and was not opened before.
        IntegrityError: the manifest is none, or not the one that manifest.json.sha256 names.
        SpecError: no such kind of address, a package is missing, or the cache cannot hold the largest shard.
    """
    address, cache = Address.of(text, MANIFEST), Cache(folder, limit)
    # Whoever asks, with whatever password, it is one corpus.
    root = cache.folder / "corpora" / hash_bytes(f"{address.shown()}{address.query}".encode())[:32]
    kept = Workspace(root)
    try:
        data, stated = _fetched(address, tries=1 if kept.manifest.is_file() else TRIES)
    except NotThereError:
        raise FetchError(f"{address.shown(MANIFEST)}: there is no such file: no corpus, or its run is not finished") from None
    except FetchError as error:
        if not kept.manifest.is_file():
            raise
        warnings.warn(f"{error}; read as it was when it was opened last, from {cache.folder}", UserWarning, stacklevel=4)
    else:
        try:
            root.mkdir(mode=0o700, parents=True, exist_ok=True)
            for path, content in ((kept.manifest_hash, stated), (kept.manifest, data)):
                if content is not None and not (path.is_file() and path.read_bytes() == content):
                    write_file(path, content)
        except OSError as error:
            raise SpecError(f"{root}: the cache cannot be written ({error.strerror}); name another folder") from None
    try:
        manifest = read_manifest(kept)
    except IntegrityError:
        raise IntegrityError(f"{address.shown(MANIFEST)}: cannot be read as a manifest") from None
    if (largest := max((entry.bytes for entry in manifest.shards), default=0)) > cache.limit:
        raise SpecError(f"cache_bytes={cache.limit} is less than the largest shard of {address.shown()}, {largest} bytes")
    return RemoteCorpus(address, root, manifest, cache)


def _fetched(address: Address, tries: int) -> tuple[bytes, bytes | None]:
    """The manifest and its hash file, None where there is none."""
    name = Workspace(Path()).manifest_hash.name
    for attempt in range(2):
        data = read_small(address, MANIFEST, MANIFEST_LIMIT, tries=tries)
        try:
            stated = read_small(address, name, HASH_LIMIT, tries=tries)
        except NotThereError:
            return data, None
        found, expected = hash_bytes(data), stated.decode(errors="replace").partition(" ")[0]
        if found == expected:
            return data, stated
        # A corpus that grew between the two is read once more.
        if attempt:
            break
    shown = address.shown(MANIFEST)
    raise IntegrityError(f"{shown}: expected SHA-256 {expected[:64]}, found {found}: one of {MANIFEST} and {name} was changed")
