"""How is a corpus opened, whoever made it? One way for all who read: typed records, no links, shards that are shards and nothing else."""

import os
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path

from medadv.common.errors import IntegrityError, first_line
from medadv.corpus.folder import Workspace
from medadv.corpus.manifest import Manifest, ShardEntry, read_manifest
from medadv.store.examine import examined
from medadv.store.hold import UNIVERSAL, Promise

UNREADABLE: tuple[type[Exception], ...] = (OSError, KeyError, ValueError, TypeError, IndexError, RuntimeError, AttributeError)
UNREADABLE += (OverflowError, AssertionError, MemoryError)
"""What a file that is no shard, or a damaged one, makes h5py and numpy raise."""
VALUES = (OSError, KeyError, ValueError, TypeError, IndexError)
"""Of these, what reading alone raises, where the victim works beside it."""
OWN = ("manifest.json", "manifest.json.sha256", "manifest.json.sig")
NO_FILE = "is no regular file"
ADVICE = "links of git-annex, DVC or a hub's cache are followed with --allow-links (links=True in Python)"


def open_corpus(
    root: Path, *, links: bool = False, check: bool = True, tell: Callable[[str], None] = lambda line: None
) -> Manifest:
    """The manifest of a corpus whose files may be read.

    Args:
        root: the corpus; may itself be reached through a link.
        links: follow files and folders of the corpus that are symbolic links, and tell where they lead.
        check: look at every shard, and what samples share, that is there, each in a process of its own, before anything of it is read.
        tell: called with a line for each link.

    Raises:
        IntegrityError: no readable manifest, a link where none is allowed, or a file that is no shard as the manifest has it.
    """
    _refuse(root, OWN, links, tell)
    manifest = read_manifest(Workspace(root))
    _refuse(root, published(manifest), links, tell)
    if check:
        files = [*promises(root, manifest), *((Workspace(root).universal(name), UNIVERSAL) for name in manifest.universal)]
        for (path, _), verdict in zip(files, examined(files), strict=True):
            if verdict is not None:
                raise IntegrityError(f"{path}: {verdict}; see `medadv verify`")
    return manifest


@contextmanager
def reading(root: Path, *errors: type[Exception]) -> Iterator[None]:
    """What contents that do not fit together make h5py and numpy raise inside becomes an IntegrityError that names the corpus.

    errors: the types meant, all of UNREADABLE when there are none.
    """
    try:
        yield
    except UNREADABLE as error:
        if errors and not isinstance(error, errors):
            raise
        if isinstance(error, FileNotFoundError) or (isinstance(error, OSError) and error.errno is not None):
            # The system's own: a full disk, a file that is gone.
            raise
        what = f"{type(error).__name__}: {first_line(error)}"
        raise IntegrityError(f"{root}: its contents do not fit together ({what}); `medadv verify` names what is wrong") from None


def _refuse(root: Path, names: Iterable[str], links: bool, tell: Callable[[str], None]) -> None:
    for name, target in led_away(root, names):
        if target is None:
            raise IntegrityError(f"{root / name}: {NO_FILE}")
        if not links:
            raise IntegrityError(f"{root / name}: {is_link(target)}")
        tell(f"{name} leads to {target}")


def is_link(target: Path) -> str:
    """What is said of a link that is not followed."""
    return f"is a link, to {target}: {ADVICE}"


def published(manifest: Manifest) -> Iterator[str]:
    """Every file that a manifest names, relative to the corpus."""
    for entry in manifest.shards:
        yield entry.path
        yield entry.receipt_path
    yield from manifest.files


def led_away(root: Path, names: Iterable[str]) -> Iterator[tuple[str, Path | None]]:
    """(name, where it leads) of files of a corpus that are links, and of folders in it that are, once each; None for pipes and devices."""
    seen: set[str] = set()
    for name in names:
        parts = name.split("/")
        for place in ("/".join(parts[: count + 1]) for count in range(len(parts))):
            if place not in seen:
                seen.add(place)
                path = root / place
                if path.is_symlink():
                    yield place, Path(os.path.realpath(path))
                if path.exists() and not path.is_file() and not path.is_dir():
                    yield place, None


def promise_of(manifest: Manifest, entry: ShardEntry) -> Promise:
    """What the manifest says that a shard holds."""
    return Promise(entry.samples, tuple(sorted(manifest.attacks)), manifest.data.unit, manifest.data.task)


def promises(root: Path, manifest: Manifest) -> Iterator[tuple[Path, Promise]]:
    """Every shard's file and promise."""
    for entry in manifest.shards:
        yield root / entry.path, promise_of(manifest, entry)
