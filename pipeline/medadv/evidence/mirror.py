"""How is a corpus checked that lies at an address? By what lies there now, whatever the cache holds: shards come one by one."""

import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

from medadv.common.cache import default_folder
from medadv.common.errors import FetchError, NotThereError, RunError, SpecError
from medadv.common.progress import Progress
from medadv.common.record import RecordError, parse
from medadv.common.remote import Address, copy
from medadv.corpus.folder import MANIFEST, Workspace
from medadv.corpus.manifest import Manifest, ShardEntry
from medadv.corpus.remote import MANIFEST_LIMIT

SMALL_LIMIT = 256 << 20
"""Bytes of a file of a corpus that is no shard."""


@dataclass(frozen=True)
class Mirror:
    """A folder that looks like the corpus at an address, but for its shards, which are there while they are checked."""

    address: Address
    root: Path
    @contextmanager
    def shard(self, entry: ShardEntry) -> Iterator[None]:
        """A shard's file, whatever its bytes, one more where it is too long, and none where it is missing. Raises FetchError."""
        path = self.root / entry.path
        try:
            with suppress(NotThereError):
                _copied(self.address, entry.path, path, entry.bytes + 1)
            yield
        finally:
            path.unlink(missing_ok=True)


@contextmanager
def mirrored(text: str, progress: Progress) -> Iterator[Mirror]:
    """The corpus at an address, as long as the context lasts; its folder lies in that of the cache.

    Files that the manifest does not name cannot be seen at an address. Raises FetchError, SpecError.
    """
    address, place = Address.of(text, MANIFEST), default_folder().expanduser()
    try:
        place.mkdir(mode=0o700, parents=True, exist_ok=True)
        folder = tempfile.TemporaryDirectory(prefix="verify-", dir=place)
    except OSError as error:
        raise SpecError(f"{place}: nothing can be put there ({error.strerror}); name another folder in MEDADV_CACHE") from None
    with folder as name:
        mirror = Mirror(address, Path(name))
        try:
            _copied(address, MANIFEST, mirror.root / MANIFEST, MANIFEST_LIMIT)
        except NotThereError:
            raise FetchError(f"{address.shown(MANIFEST)}: there is no such file: no corpus, or its run is not finished") from None
        for number, wanted in enumerate(names := _small(mirror.root)):
            with suppress(NotThereError):
                _copied(address, wanted, mirror.root / wanted, SMALL_LIMIT)
            progress("fetch", number + 1, len(names))
        yield mirror


def _small(root: Path) -> list[str]:
    """Names of all files but the shards, those of a manifest that can be read included."""
    workspace = Workspace(root)
    names = [workspace.manifest_hash.name, workspace.signature.name]
    try:
        manifest = parse(Manifest, workspace.manifest.read_bytes())
    except RecordError:
        return names
    return [*names, *manifest.files, *(entry.receipt_path for entry in manifest.shards)]


def _copied(address: Address, name: str, path: Path, most: int) -> None:
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with path.open("w+b") as target:
            copy(address, name, target, most)
    except NotThereError:
        path.unlink(missing_ok=True)
        raise
    except OSError as error:
        raise RunError(f"{path.parent}: cannot be written ({error.strerror}); make room, or name another folder in MEDADV_CACHE") from None
