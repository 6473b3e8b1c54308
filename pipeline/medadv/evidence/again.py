"""What do the sources say now? Inputs and labels read again, beside what is stored."""

import os
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from medadv.batches.loading import Loaded
from medadv.common.errors import RunError, SpecError
from medadv.corpus.folder import Workspace, shard_name
from medadv.datasets.labels import Label, same_label
from medadv.datasets.layouts import list_samples
from medadv.datasets.sample import Sample
from medadv.datasets.source import Source
from medadv.plan.frozen import FrozenPlan, generations
from medadv.plan.model import PlannedShard
from medadv.plan.recipe import reader_of
from medadv.spec.data import DataSettings
from medadv.victims.victim import TaskModel
from medadv_transforms import InputError
from medadv_transforms.held import holding

TABLES = ("csv", "decathlon", "coco", "yolo")
"""Layouts whose labels stand in text files. Those of the others follow from the files' names, which the plan knows."""
Listed = dict[tuple[str, ...], Source] | None
"""What such files say now, by images; None where there are none to ask."""


class Origin:
    """Where the samples of a generation came from: its plan, what reads them, and what the label files say now."""

    def __init__(self, plan: FrozenPlan, data: Path) -> None:
        """data: the data root. SpecError where label files cannot be read."""
        self.plan = plan
        self.reader = replace(reader_of(plan, plan.spec), root=data)
        self.listed = _listed(plan, plan.spec.data, data)
        self._lines = plan.lines()
        self._last: PlannedShard | None = None

    def shard(self, name: str) -> PlannedShard:
        """A planned shard; asked for in the order of the plan, each line of it is read once."""
        if self._last is None or shard_name(self._last.index) != name:
            self._last = next((s for s in self._lines if shard_name(s.index) == name), None)
        if self._last is None:
            self._lines = self.plan.lines()
            self._last = next(s for s in self._lines if shard_name(s.index) == name)
        return self._last


def origin_of(workspace: Workspace, generation: int, data: Path) -> Origin:
    """The sources of a generation under a data root. SpecError without the maker's plan."""
    plans = generations(workspace.plans)
    if len(plans) <= generation:
        raise SpecError("--data needs the maker's plan (.medadv), which knows the files; without it, leave --data out")
    return Origin(plans[generation], data)


def read_again(
    origin: Origin, shard: str, stored: list[Loaded], labels: list[Label], judge: TaskModel
) -> tuple[list[Loaded], list[str]]:
    """The batch's samples from their sources, and those that are not what is stored."""
    planned = {sample.id: sample for sample in origin.shard(shard).samples}
    listed = origin.listed
    again, changed = [], []
    for item, label in zip(stored, labels, strict=True):
        source = planned[item.planned.id]
        # Without a table under `data`, the plan remembers what it said. A row that is gone is another one, too.
        now = source.source if listed is None else listed.get(source.source.images)
        wanted = source.source if now is None else replace(source.source, label=_relabelled(source.source, now))
        try:
            with holding() as held:
                # One state of the files, however often they are opened to be decoded: they may be written to meanwhile.
                for path in origin.reader.files(wanted) if wanted.index is None else ():
                    held.take(path)
                sample = origin.reader.read(wanted)
        except (InputError, OSError) as error:
            raise RunError(f"the input of sample {source.id} cannot be read from {origin.reader.root}: {error}") from None
        if now is None or not _same(sample, item.sample) or not _same_label(sample, label, judge):
            changed.append(source.id)
        again.append(Loaded(source, sample, None, item.place))
    return again, changed


def _listed(plan: FrozenPlan, settings: DataSettings, data: Path) -> Listed:
    """What the label files say that lie under `data` as they did under the plan's root. SpecError where they cannot be read."""
    path = os.path.relpath(Path(plan.base, settings.path), plan.root)
    if settings.unlabelled or settings.layout not in TABLES or path.startswith("..") or not (data / path).exists():
        return None
    listing = list_samples(settings.model_copy(update={"path": path, "root": None if settings.root is None else "."}), data)
    return {source.images: source for source in listing.sources}


def _relabelled(planned: Source, now: Source) -> Any:
    """What the label file says now; what the plan settled of masks stays."""
    return {**planned.label, **now.label} if planned.masks and now.masks else now.label


def _same(new: Sample, stored: Sample) -> bool:
    everywhere = np.ones(stored.image.shape[1:], bool)
    first, second = (everywhere if sample.region is None else sample.region for sample in (new, stored))
    here, there = (np.zeros(0) if sample.affine is None else sample.affine for sample in (new, stored))
    return np.array_equal(new.image, stored.image) and np.array_equal(first, second) and np.array_equal(here, there)


def _same_label(new: Sample, stored: Label, judge: TaskModel) -> bool:
    """Whether the truth that was read again is the stored one; unlabelled data holds none to compare."""
    if new.label is None:
        return True
    try:
        label = judge.as_label(new.label)
    except ValueError:
        return False
    return same_label(label, stored)
