"""Small private records of a corpus that outlive a run: the key, what was quarantined, what kills workers, what must not come back."""

import json
import secrets
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from medadv.common.errors import IntegrityError, NothingFoundError
from medadv.common.files import remove, write_file
from medadv.common.hashing import canonical_json
from medadv.corpus.folder import Workspace

KEY_BYTES = 32


@contextmanager
def taken_back(workspace: Workspace) -> Iterator[None]:
    """Create the folders; delete what was made inside where it ends in an error before anything was planned, or finds no usable sample.

    Only under the lock; what lay there before, such as a key of the user's own, stays.
    """
    new = not workspace.shards.exists()
    workspace.make()
    if workspace.planned:
        yield
        return
    before = _own_files(workspace)
    try:
        yield
    except BaseException as error:
        if isinstance(error, NothingFoundError) or not workspace.planned:
            # What lies in a folder comes before the folder.
            for path in sorted(_own_files(workspace) - before, reverse=True):
                with suppress(OSError):
                    path.rmdir() if path.is_dir() else remove(path)
            if new:
                # Others may have put something there.
                with suppress(OSError):
                    workspace.shards.rmdir()
        raise


def _own_files(workspace: Workspace) -> set[Path]:
    """Everything that a run writes; a folder that is given as the corpus may hold other things."""
    named = (workspace.manifest, workspace.manifest_hash, workspace.quarantine, workspace.croissant)
    found = {*workspace.private.rglob("*"), *workspace.shards.glob("shard-*"), *(path for path in named if path.exists())}
    # A fit may have taken hours, and goes on where it was stopped.
    return {path for path in found if workspace.fits not in (path, *path.parents)} | {
        *workspace.attacks.glob("*.h5"),
        *([workspace.attacks] if workspace.attacks.is_dir() else []),
    }


def ensure_key(workspace: Workspace) -> bytes:
    """The secret key of the group hashes, made when missing."""
    if not workspace.key.exists():
        write_file(workspace.key, secrets.token_bytes(KEY_BYTES), mode=0o600)
    return workspace.key.read_bytes()


def sweep(workspace: Workspace) -> None:
    """Remove what killed processes left behind. Safe under the lock: nobody else writes here."""
    strays = ((workspace.root, ".tmp-*"), (workspace.shards, ".tmp-*"), (workspace.attacks, ".tmp-*"), (workspace.private, "**/.tmp-*"))
    for folder, pattern in strays:
        for stray in folder.glob(pattern):
            stray.unlink(missing_ok=True)


def known_sources(workspace: Workspace) -> dict[str, str]:
    """Public name -> private path of every input that was ever quarantined."""
    return _read(workspace.sources, {})


def remember_sources(workspace: Workspace, paths: dict[str, str]) -> None:
    """Add to them."""
    write_file(workspace.sources, canonical_json({**known_sources(workspace), **paths}))


def predecessors(workspace: Workspace) -> dict[str, str]:
    """Content root -> folder of every corpus that attacks start from."""
    return _read(workspace.predecessors, {})


def remember_predecessors(workspace: Workspace, folders: dict[str, str]) -> None:
    """Add to them, and note where they lie now."""
    before = predecessors(workspace)
    if not folders.items() <= before.items():
        write_file(workspace.predecessors, canonical_json({**before, **folders}))


def poison(workspace: Workspace) -> list[str]:
    """Samples that killed a worker twice, tried alone."""
    return _read(workspace.poison, [])


def remember_poison(workspace: Workspace, samples: Iterable[str]) -> None:
    """Add to them."""
    write_file(workspace.poison, canonical_json(sorted({*poison(workspace), *samples})))


def forgotten_groups(workspace: Workspace) -> list[str]:
    """Group hashes of patients that were removed."""
    return _read(workspace.forgotten, [])


def remember_forgotten(workspace: Workspace, group: str) -> None:
    """Add to them."""
    write_file(workspace.forgotten, canonical_json(sorted({*forgotten_groups(workspace), group})))


def _read(path: Path, default: Any) -> Any:
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        return default
    except (ValueError, RecursionError):
        raise IntegrityError(f"{path}: is damaged; put it back from a copy") from None
