"""Where do the samples of a plan begin whose attack starts from another corpus? Where that left them, or a shard that is gone had.

A shard that is made anew since a patient was forgotten takes the starts that it held: the other corpus may have changed, or be gone.
They are kept beside the plan until every shard is made, one file a sample.
"""

from collections.abc import Sequence
from pathlib import Path
from zipfile import BadZipFile

import numpy as np

from medadv.common.errors import IntegrityError
from medadv.common.files import publish, remove, temporary
from medadv.common.hashing import hash_array
from medadv.corpus import private
from medadv.corpus.folder import Workspace, shard_name
from medadv.corpus.opening import VALUES, reading
from medadv.corpus.predecessor import Predecessor, open_predecessor
from medadv.corpus.receipt import committed
from medadv.datasets.labels import Array
from medadv.plan.frozen import FrozenPlan, live_lines
from medadv.plan.model import PlannedShard
from medadv.plan.recipe import Starts
from medadv.spec.start import PlannedStart
from medadv.store.layout import START, WARM
from medadv.store.reader import open_shard

Kept = tuple[Array, Array]
"""start: (C, *spatial).  warm: one value, as in shards."""


def starts_of(workspace: Workspace, plan: FrozenPlan) -> dict[str, Starts]:
    """By attack, for whoever makes the plan's shards."""
    return {name: _Begin(workspace, plan, name, s.start) for name, s in plan.settings.attacks.items() if isinstance(s.start, PlannedStart)}


class _Begin:
    """`Starts` of one attack."""

    def __init__(self, workspace: Workspace, plan: FrozenPlan, attack: str, start: PlannedStart) -> None:
        self.workspace, self.plan, self.attack, self.start = workspace, plan, attack, start

    def __call__(self, ids: Sequence[str], images: Array) -> tuple[Array, Array]:
        kept = [_kept(self.plan.folder, self.attack, sample) for sample in ids]
        given, warm = np.zeros(images.shape, np.int16), np.zeros(len(ids), np.uint8)
        for row, (before, image) in enumerate(zip(kept, images, strict=True)):
            if before is not None and before[0].shape == image.shape:
                given[row], warm[row] = before
        if others := [row for row, before in enumerate(kept) if before is None]:
            given[others], warm[others] = self._predecessor().starts([ids[row] for row in others], images[others])
        return given, warm

    def _predecessor(self) -> Predecessor:
        data = self.plan.settings.data
        folder = private.predecessors(self.workspace).get(self.start.content_root)
        if folder is None:
            raise IntegrityError(f"{self.workspace.predecessors} does not say where the corpus lies that {self.attack} starts from")
        where = f"attacks.{self.attack}.start"
        return open_predecessor(where, Path(folder), self.start.attack, data.modality, data.unit, self.start)


def keep_starts(
    workspace: Workspace, plans: Sequence[FrozenPlan], concerned: Sequence[tuple[FrozenPlan, PlannedShard]], group: str
) -> None:
    """Keep what shards that are about to go say of starts, beside the plan that is about to stand for them, but for one group's samples."""
    folder = workspace.plan(len(plans))
    _clear(folder)
    warm = [name for name, settings in plans[-1].settings.attacks.items() if settings.warm]
    for plan, shard in concerned if warm else ():
        others = {sample.id for sample in shard.samples if sample.group != group}
        for name in warm:
            for sample, kept in {**_held(workspace, plan, shard, name), **_earlier(plan.folder, shard, name)}.items():
                if sample in others:
                    _keep(_file(folder, name, sample), kept)


def _held(workspace: Workspace, plan: FrozenPlan, shard: PlannedShard, attack: str) -> dict[str, Kept]:
    """What a committed shard says, by sample, as far as it is as it was committed: damage keeps no patient from being forgotten."""
    name, found = shard_name(shard.index), dict[str, Kept]()
    try:
        receipt = committed(workspace, name, plan.hash)
        if receipt is not None and receipt.records:
            key = f"attacks/{attack}/{START}"
            with reading(workspace.root, *VALUES), open_shard(workspace.shard(name)) as file:
                for row, record in enumerate(receipt.records):
                    start = np.asarray(file[key][row])
                    if hash_array(start) == record.hashes.get(key):
                        found[record.id] = start, np.asarray(file[f"attacks/{attack}/{WARM}"][row])
    except (IntegrityError, OSError):
        pass
    return found


def _earlier(folder: Path, shard: PlannedShard, attack: str) -> dict[str, Kept]:
    """What was kept for a shard that never was made.  folder: of its plan."""
    found = {sample.id: _kept(folder, attack, sample.id) for sample in shard.samples}
    return {sample: kept for sample, kept in found.items() if kept is not None}


def drop_starts(plans: Sequence[FrozenPlan], *, done: bool) -> None:
    """Remove what is kept of samples that are in no shard of the plan any more; all of it where every shard is made."""
    wanted: dict[Path, set[str]] = {plan.folder: set() for plan in plans}
    if not done and any((plan.folder / "starts").is_dir() for plan in plans):
        for plan, shard in live_lines(plans):
            wanted[plan.folder] |= {sample.id for sample in shard.samples}
    for folder, samples in wanted.items():
        _clear(folder, samples)


def _file(folder: Path, attack: str, sample: str) -> Path:
    """folder: of the plan."""
    return folder / "starts" / attack / f"{sample}.npz"


def _keep(path: Path, kept: Kept) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    made = temporary(path)
    try:
        with made.open("xb") as stream:
            np.savez_compressed(stream, start=kept[0], warm=kept[1])
        publish(made, path)
    finally:
        made.unlink(missing_ok=True)


def _kept(folder: Path, attack: str, sample: str) -> Kept | None:
    path = _file(folder, attack, sample)
    try:
        with np.load(path, allow_pickle=False) as found:
            return found["start"], found["warm"]
    except FileNotFoundError:
        return None
    except (OSError, ValueError, KeyError, EOFError, BadZipFile):
        raise IntegrityError(f"{path} is damaged; remove it, and the sample starts where the corpus before left it") from None


def _clear(folder: Path, wanted: set[str] | frozenset[str] = frozenset()) -> None:
    """Remove the files of all samples but those, and folders that are empty then."""
    starts = folder / "starts"
    for attack in sorted(starts.iterdir()) if starts.is_dir() else ():
        for path in sorted(attack.iterdir()):
            if path.stem not in wanted:
                remove(path)
        if not any(attack.iterdir()):
            attack.rmdir()
    if starts.is_dir() and not any(starts.iterdir()):
        starts.rmdir()
