"""The shards of a corpus as its manifest had them when a reader was made: other files that lie in their places later are refused."""

from bisect import bisect_right
from collections.abc import Callable
from itertools import accumulate
from pathlib import Path
from typing import Any

from medadv.common.errors import IntegrityError
from medadv.common.hashing import FileIdentity, file_identity, hash_file
from medadv.corpus.manifest import Manifest, ShardEntry
from medadv.corpus.opening import ADVICE, promise_of
from medadv.store.hold import ShardError, hold
from medadv.store.reader import open_files, open_rows
from medadv.store.rows import Rows


class HeldShards:
    """Opens a corpus's shards on demand and holds each file, once, against the manifest that the reader was made with.

    A corpus made anew at the same path has other shards under the same names. One that grew has more of them, and is read on.
    """

    def __init__(
        self,
        root: Path,
        manifest: Manifest,
        *,
        links: bool = False,
        check: bool = True,
        hashed: bool = False,
        place: Callable[[ShardEntry], Path] | None = None,
    ) -> None:
        """root: the corpus's folder, absolute.  manifest: as `open_corpus` read it, with these `links` and `check`.

        hashed: hold each file's SHA-256 against the manifest, too, before it is first read.  place: where each shard lies, when not in
        that folder.
        """
        self.root, self.entries = root, {root / entry.path if place is None else place(entry): entry for entry in manifest.shards}
        self.links, self.check, self.hashed = links, check, hashed
        self.promises = {path: promise_of(manifest, entry) for path, entry in self.entries.items()}
        # Looked at when the manifest was read: a worker that was spawned need not do it again.
        self.examined = {path: found for path in self.entries if check and (found := _identity(path)) is not None}
        self.paths = list(self.entries)
        self.starts = list(accumulate((entry.samples for entry in self.entries.values()), initial=0))
        self.plans = [generation.plan for generation in manifest.generations]
        self.seen: dict[Path, FileIdentity] = {}

    def __len__(self) -> int:
        """Number of samples."""
        return self.starts[-1]

    def locate(self, place: int) -> tuple[Path, int]:
        """Shard file and row of a sample, counted from 0."""
        shard = bisect_right(self.starts, place) - 1
        return self.paths[shard], place - self.starts[shard]

    def open(self, path: Path) -> Any:
        """A shard's open file, kept open by this process.

        Raises IntegrityError where it is not the one that the manifest lists, FileNotFoundError where there is none.
        """
        identity = file_identity(path)
        if self.seen.get(path) != identity and not self.links and path.is_symlink():
            raise IntegrityError(f"{path} is a link: {ADVICE}")
        file = open_files(path, check=self.check and self.examined.get(path) != identity)
        if self.seen.get(path) != identity:
            self._check(path, identity, file)
            self.seen[path] = identity
        return file

    def rows(self, path: Path) -> Rows:
        """What `open` gives, to be read sample by sample. Errors are the same."""
        self.open(path)
        return open_rows(path, check=False)

    def _check(self, path: Path, identity: FileIdentity, file: Any) -> None:
        entry = self.entries[path]
        try:
            hold(file, self.promises[path])
        except ShardError as error:
            raise IntegrityError(f"{path}: {error}; run `medadv verify`") from None
        if self.hashed and hash_file(path) != entry.sha256:
            raise IntegrityError(f"{path}: its SHA-256 is not that of the manifest; `medadv verify` names what is wrong")
        plan = self.plans[entry.generation]
        # A plan's hash covers settings, samples and labels, so that the size is left to tell what another machine made of it.
        if file.attrs["plan"] != plan or entry.bytes != identity[2]:
            raise IntegrityError(
                f"{path}: not the file that this reader's manifest lists: the corpus was made anew or damaged since; "
                "make the reader again, or run `medadv verify`"
            )


def _identity(path: Path) -> FileIdentity | None:
    try:
        return file_identity(path)
    except OSError:
        return None
