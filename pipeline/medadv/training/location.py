"""Where does a corpus lie, and what is a sample in it called, however its user writes it?"""

from dataclasses import dataclass
from pathlib import Path

from medadv.common.errors import IntegrityError
from medadv.common.remote import is_remote
from medadv.corpus.folder import MANIFEST, Workspace, corpus_folder
from medadv.corpus.manifest import Manifest
from medadv.corpus.opening import open_corpus
from medadv.corpus.remote import open_remote
from medadv.training.held import HeldShards
from medadv.training.remote import RemoteShards

SHARD_SUFFIX = ".h5#"


@dataclass(frozen=True)
class Opening:
    """How the corpora of a data set are opened; each as its argument of that name."""

    links: bool
    check: bool
    hashed: bool
    """Whether SHA-256 are held against the manifest."""
    cache: str | Path | None
    cache_bytes: int | None

    def opened(self, corpus: str | Path) -> tuple[Path, Manifest, HeldShards]:
        """Folder, manifest and shards of a corpus in a folder or at an address; of an address the folder is that of the cached manifest.

        Raises IntegrityError; FetchError, SpecError as `open_remote`.
        """
        if is_remote(corpus):
            # Its shards are always held against their SHA-256.
            remote = open_remote(str(corpus), self.cache, self.cache_bytes)
            return remote.root, remote.manifest, RemoteShards(remote, check=self.check)
        root = corpus_folder(corpus)
        manifest = read_corpus_manifest(root, links=self.links, check=self.check)
        return root, manifest, HeldShards(root, manifest, links=self.links, check=self.check, hashed=self.hashed)


def read_corpus_manifest(root: Path, *, links: bool, check: bool) -> Manifest:
    """The manifest of a corpus folder whose shards may be read, see `open_corpus`. Raises IntegrityError."""
    if not Workspace(root).manifest.is_file():
        raise IntegrityError(f"{root}: no readable {MANIFEST}; not a corpus, or its run is not finished")
    return open_corpus(root, links=links, check=check)


def is_address(name: str) -> bool:
    """Whether a name has one of the forms of CorpusReader's."""
    return SHARD_SUFFIX in name


def split_address(name: str) -> tuple[Path, str, str, tuple[str, ...]]:
    """Shard, sample, what is asked of it, and the words that are no attack there. Folders may hold a `#` of their own."""
    shard, _, address = name.rpartition(SHARD_SUFFIX)
    path = Path(f"{shard}.h5").expanduser()
    if address.startswith("/"):
        sample, _, what = address[1:].removesuffix(".h5").partition("_")
        return path, sample, what, ("clean", "label", "region")
    sample, _, what = address.partition("/")
    return path, sample, what, ("", "label", "region")
