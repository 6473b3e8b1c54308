"""Where does a corpus lie, and what is a sample in it called, however its user writes it?"""

from pathlib import Path

from medadv.common.errors import IntegrityError
from medadv.corpus.folder import MANIFEST, Workspace
from medadv.corpus.manifest import Manifest
from medadv.corpus.opening import open_corpus

SHARD_SUFFIX = ".h5#"


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
