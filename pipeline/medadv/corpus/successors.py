"""Who rests on a corpus? Later corpora whose attacks start from it leave a note in its private folder, where they can write to it."""

import json
import os
import secrets
from collections.abc import Collection, Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from medadv.common.errors import IntegrityError
from medadv.common.hashing import hash_bytes
from medadv.corpus.folder import Workspace
from medadv.plan.frozen import generations, live_lines


@dataclass(frozen=True)
class Later:
    """A corpus that rests on another one.  groups: hashes, by its own key, of the groups that the samples in question stand in there; None
    where that cannot be read."""

    folder: Path
    groups: tuple[str, ...] | None

    def told(self, corpus: Path) -> str:
        """What who forgets a patient in `corpus` has to know, in one line."""
        text = f"{self.folder} rests on {corpus}: its samples started from perturbations there"
        if self.groups is None:
            return f"{text}; what it holds cannot be read there (moved, deleted or damaged): see yourself"
        if not self.groups:
            return f"{text}; it holds none of this patient"
        return f"{text}, and it holds this patient: {'; '.join(f'medadv forget {self.folder} --group {group}' for group in self.groups)}"


def tell_predecessor(folder: Path, corpus: Path) -> str | None:
    """Leave a note with a corpus that another one starts from; returns why not, where that cannot be.

    One that came without its private folder was made by somebody else, who can forget nothing there, and is not told.
    """
    earlier = Workspace(folder)
    note = earlier.successors / f"{hash_bytes(os.fsencode(corpus))[:32]}.json"
    if not earlier.private.is_dir() or earlier.private.is_symlink() or note.exists():
        return None
    # Not through the folder that this run writes in, which may lie on another disk.
    made = note.with_name(f".tmp-{secrets.token_hex(4)}")
    for again in (True, False):
        try:
            earlier.successors.mkdir(mode=0o700, exist_ok=True)
            made.write_text(json.dumps(os.fspath(corpus)))
            made.replace(note)
            break
        except OSError as error:
            if again and isinstance(error, FileNotFoundError):
                continue  # A run that began there in this moment took it for what a killed one left.
            with suppress(OSError):
                made.unlink()
            return f"{folder} cannot be told that {corpus} starts from it ({type(error).__name__}): `medadv forget` there will not name it"
    return None


def later_corpora(workspace: Workspace, samples: Collection[str]) -> Iterator[Later]:
    """Every corpus that rests on this one, also by way of others, as far as they said so.  samples: ids that are in question."""
    seen, waiting = {workspace.root}, [workspace]
    while waiting:
        for folder in _noted(waiting.pop(0)):
            if folder not in seen:
                seen.add(folder)
                later = Workspace(folder)
                waiting.append(later)
                yield Later(folder, _groups(later, set(samples)))


def _noted(workspace: Workspace) -> list[Path]:
    found = []
    for note in sorted(workspace.successors.glob("*.json")):
        try:
            found.append(Path(json.loads(note.read_text())))
        except (OSError, ValueError, TypeError):
            # A note that cannot be read names nobody.
            continue
    return found


def _groups(workspace: Workspace, samples: set[str]) -> tuple[str, ...] | None:
    try:
        lines = live_lines(generations(workspace.plans)) if workspace.planned else None
        return None if lines is None else tuple(sorted({s.group for _, shard in lines for s in shard.samples if s.id in samples}))
    except (OSError, IntegrityError):
        # Damage elsewhere keeps no patient from being forgotten here.
        return None
