"""Regenerate a sample's planned batch and compare it with what is stored, bit for bit."""

import json
import os
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from medadv.answers import Boxes, Label
from medadv.datasets.read import Sample
from medadv.datasets.source import Source
from medadv.errors import IntegrityError, RunError, SpecError
from medadv.inputs import Loaded
from medadv.plan.frozen import FrozenPlan, generations
from medadv.plan.model import PlannedSample, PlannedShard
from medadv.plan.survey import list_samples
from medadv.provenance.check_shard import load_receipt
from medadv.provenance.manifest import read_manifest
from medadv.provenance.published import device_of, differences, load_published_victim
from medadv.recipe import Recipe, attack_samples
from medadv.spec.attack import AttackSettings
from medadv.spec.data import DataSettings
from medadv.store.codecs import require_codec
from medadv.store.reader import open_shard, read_answer, spacing_of
from medadv.victims.base import Victim
from medadv.worker import plan_spec, reader_of
from medadv.workspace import Workspace
from medadv_transforms import InputError

TOLERANCE = 0.1
"""Share of voxels whose perturbation may differ on other hardware or versions: a sign attack turns rounding differences of the gradient
into whole steps, from one step to the next."""


TABLES = ("csv", "decathlon", "coco", "yolo")
"""Layouts whose labels stand in text files. Those of the others follow from the files' names, which the plan knows."""

Listed = dict[tuple[str, ...], Source] | None
"""What such files say now, by images; None where there are none to ask."""


@dataclass(frozen=True)
class Reproduced:
    """One sample under one attack, made again. share: of voxels that differ; largest: difference in stored units."""

    sample: str
    attack: str
    equal: bool
    share: float
    largest: int


@dataclass(frozen=True)
class Reproduction:
    """What came out, and how this machine differs from the one the corpus was made on."""

    origin: str
    results: list[Reproduced]
    inputs: list[str]
    """Samples whose input or label, read again from its source, is not what is stored."""
    environment: list[str]

    @property
    def equal(self) -> bool:
        """Bit for bit."""
        return not self.inputs and all(result.equal for result in self.results)

    @property
    def accepted(self) -> bool:
        """Equal, or within the tolerance on another machine."""
        return self.equal or (not self.inputs and bool(self.environment) and all(r.share <= TOLERANCE for r in self.results))

    def as_dict(self) -> dict[str, Any]:
        """For --json."""
        return {**asdict(self), "equal": self.equal, "accepted": self.accepted, "tolerance": TOLERANCE}


def reproduce(
    root: Path, sample: str | None, *, data: Path | None = None, weights: Path | None = None, trust_code: bool = False
) -> Reproduction:
    """Regenerate one sample with its planned batch, or every sample.

    Args:
        root: the corpus; with the weights it is all that is needed.
        sample: its id; None reproduces all samples.
        data: data root to read inputs and labels from again, through the transforms; needs the maker's `.medadv`.
        weights: the victim's weights, where the maker's plan is not at hand.
        trust_code: whether a `python:` factory may be imported.

    Raises:
        SpecError: no such sample; weights or plan are missing; the corpus needs hdf5plugin.
        RunError: an input cannot be read.
        IntegrityError: the shard is damaged.
    """
    workspace = Workspace(root)
    manifest = read_manifest(workspace)
    require_codec(manifest["execution"]["codec"])
    results: list[Reproduced] = []
    inputs: list[str] = []
    listings: dict[int, Listed] = {}
    victim: Victim | None = None
    shape: tuple[int, ...] = ()
    for entry, receipt, numbers in _wanted(root, manifest, sample):
        with open_shard(root / entry["path"]) as file:
            if victim is None or shape != file["image"].shape[1:]:
                shape = file["image"].shape[1:]
                victim = load_published_victim(manifest, workspace, shape, weights, trust_code)
            for number in numbers:
                rows = [i for i, record in enumerate(receipt["records"]) if record["place"][0] == number]
                loaded, labels = _stored_batch(file, receipt, rows)
                if data is not None:
                    loaded, changed = _read_again(workspace, receipt, loaded, labels, data, victim, listings)
                    inputs += changed
                results += _compare(file, receipt, rows, loaded, labels, manifest, victim)
    if sample is not None:
        results, inputs = [r for r in results if r.sample == sample], [i for i in inputs if i == sample]
    return Reproduction("stored clean images" if data is None else "sources", results, inputs, differences(manifest))


def _wanted(root: Path, manifest: dict[str, Any], sample: str | None) -> Iterator[tuple[dict[str, Any], dict[str, Any], list[int]]]:
    """Shards with their receipts and the batches to make again."""
    for entry in manifest["shards"]:
        if sample is not None and sample.encode() not in (root / entry["path"]).with_suffix(".json").read_bytes():
            continue
        receipt, problem = load_receipt(root, entry)
        if receipt is None:
            raise IntegrityError(f"{entry['path']}: {problem}; run `medadv verify`")
        places = {record["place"][0] for record in receipt["records"] if sample in (None, record["id"])}
        if places:
            yield entry, receipt, sorted(places)
            if sample is not None:
                return
    if sample is not None:
        raise SpecError(f"no sample {sample} in this corpus; the ids stand in shards/*.json")


def _stored_batch(file: Any, receipt: dict[str, Any], rows: Sequence[int]) -> tuple[list[Loaded], list[Label]]:
    loaded, labels = [], []
    for row in rows:
        record = receipt["records"][row]
        image = np.asarray(file["image"][row])
        affine = np.asarray(file["affine"][row]) if "affine" in file else None
        region = np.asarray(file["region"][row]).astype(bool) if "region" in file else None
        axes = str(file.attrs["spatial_axes"])
        found = Sample(image, str(file.attrs["unit"]), axes, None, affine, spacing_of(affine, image.ndim - 1), region, record["facts"])
        nowhere = PlannedSample(record["id"], "", "", Source((), None))
        loaded.append(Loaded(nowhere, found, None, (record["place"][0], record["place"][1])))
        labels.append(read_answer(file, "label", row))
    return loaded, labels


def _read_again(
    workspace: Workspace,
    receipt: dict[str, Any],
    stored: list[Loaded],
    labels: list[Label],
    data: Path,
    victim: Victim,
    listings: dict[int, Listed],
) -> tuple[list[Loaded], list[str]]:
    """The batch's samples from their sources, and those that are not what is stored. listings: per generation, filled here."""
    plans = generations(workspace.private / "plans")
    if len(plans) <= receipt["generation"]:
        raise SpecError("--data needs the maker's plan (.medadv), which knows the files; without it, leave --data out")
    plan = plans[receipt["generation"]]
    spec = plan_spec(plan)
    reader = replace(reader_of(plan, spec), root=data)
    planned = {sample.id: sample for sample in _shard_of(plan.lines(), receipt["shard"]).samples}
    if plan.generation not in listings:
        listings[plan.generation] = _listed(plan, spec.data, data)
    listed = listings[plan.generation]
    again, changed = [], []
    for item, label in zip(stored, labels, strict=True):
        source = planned[item.planned.id]
        # Without a table under `data`, the plan remembers what it said. A row that is gone is another one, too.
        now = source.source if listed is None else listed.get(source.source.images)
        try:
            sample = reader.read(source.source if now is None else replace(source.source, label=_relabelled(source.source, now)))
        except (InputError, OSError) as error:
            raise RunError(f"the input of sample {source.id} cannot be read from {data}: {error}") from None
        if now is None or not _same(sample, item.sample) or not _same_label(sample, label, victim):
            changed.append(source.id)
        again.append(Loaded(source, sample, None, item.place))
    return again, changed


def _relabelled(planned: Source, now: Source) -> Any:
    """What the label file says now; what the plan settled of masks stays."""
    return {**planned.label, **now.label} if planned.masks and now.masks else now.label


def _listed(plan: FrozenPlan, settings: DataSettings, data: Path) -> Listed:
    """What the label files say that lie under `data` as they did under the plan's root. SpecError where they cannot be read."""
    path = os.path.relpath(Path(plan.base, settings.path), plan.root)
    if settings.unlabelled or settings.layout not in TABLES or path.startswith("..") or not (data / path).exists():
        return None
    listing = list_samples(settings.model_copy(update={"path": path, "root": None if settings.root is None else "."}), data)
    return {source.images: source for source in listing.sources}


def _shard_of(lines: Iterator[PlannedShard], name: str) -> PlannedShard:
    return next(shard for shard in lines if f"shard-{shard.index:05d}" == name)


def _same(new: Sample, stored: Sample) -> bool:
    everywhere = np.ones(stored.image.shape[1:], bool)
    first, second = (everywhere if sample.region is None else sample.region for sample in (new, stored))
    here, there = (np.zeros(0) if sample.affine is None else sample.affine for sample in (new, stored))
    return np.array_equal(new.image, stored.image) and np.array_equal(first, second) and np.array_equal(here, there)


def _same_label(new: Sample, stored: Label, victim: Victim) -> bool:
    """Whether the truth that was read again is the stored one; unlabelled data holds none to compare."""
    if new.label is None:
        return True
    try:
        label = victim.as_label(new.label)
    except ValueError:
        return False
    if isinstance(label, Boxes) and isinstance(stored, Boxes):
        return np.array_equal(label.boxes, stored.boxes) and np.array_equal(label.classes, stored.classes)
    return not isinstance(label, Boxes) and not isinstance(stored, Boxes) and np.array_equal(label, stored)


def _compare(
    file: Any,
    receipt: dict[str, Any],
    rows: Sequence[int],
    loaded: Sequence[Loaded],
    labels: Sequence[Label],
    manifest: dict[str, Any],
    victim: Victim,
) -> list[Reproduced]:
    attacks = {name: AttackSettings(**settings) for name, settings in manifest["attacks"].items()}
    recipe = Recipe(
        plan=receipt["plan"],
        generation=receipt["generation"],
        modality=manifest["data"]["modality"],
        attacks=attacks,
        seed=manifest["execution"]["seed"],
        device=device_of(manifest),
        first_shard=-1,
    )
    results = []
    for name, settings in attacks.items():
        if json.loads(str(file[f"attacks/{name}"].attrs["parameters"])) != manifest["attacks"][name]:
            raise IntegrityError(f"{receipt['shard']}: settings of {name} differ from the manifest's")
        made = attack_samples(name, settings, recipe, loaded, labels, victim)
        for row, item, new in zip(rows, loaded, made, strict=True):
            off = np.abs(new.astype(np.int32) - file[f"attacks/{name}/perturbation"][row])
            results.append(Reproduced(item.planned.id, name, not off.any(), float((off > 0).mean()), int(off.max())))
    return results
