"""Regenerate a sample's planned batch and compare it with what is stored, bit for bit."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from medadv.batches.attacking import attack_samples
from medadv.batches.loading import Loaded
from medadv.common.errors import IntegrityError, SpecError
from medadv.common.progress import SILENT
from medadv.corpus.folder import Workspace
from medadv.corpus.manifest import Manifest, ShardEntry
from medadv.corpus.opening import VALUES, open_corpus, reading
from medadv.corpus.receipt import Receipt
from medadv.corpus.universal import shared
from medadv.datasets.labels import Array, Label
from medadv.datasets.sample import Sample
from medadv.datasets.source import Source
from medadv.evidence.again import Origin, origin_of, read_again
from medadv.evidence.content import same_settings
from medadv.evidence.published import device_of, differences, load_published_victim
from medadv.plan.model import PlannedSample
from medadv.plan.recipe import Recipe
from medadv.store.codecs import require_codec
from medadv.store.layout import START, WARM
from medadv.store.reader import open_shard, read_answer, spacing_of
from medadv.victims.victim import Victim

TOLERANCE = 0.1
"""Share of voxels whose perturbation may differ on other hardware or versions: a sign attack turns rounding differences of the gradient
into whole steps, from one step to the next."""


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

    def as_dict(self) -> Any:
        """For --json."""
        return {**asdict(self), "equal": self.equal, "accepted": self.accepted, "tolerance": TOLERANCE}


def reproduce(
    root: Path,
    sample: str | None,
    *,
    data: Path | None = None,
    weights: Sequence[Path] = (),
    trust_code: bool = False,
    code: Path | None = None,
    links: bool = False,
    tell: Callable[[str], None] = SILENT.message,
) -> Reproduction:
    """Regenerate one sample with its planned batch, or every sample.

    Args:
        root: the corpus; with the weights it is all that is needed.
        sample: its id; None reproduces all samples.
        data: data root to read inputs and labels from again, through the transforms; needs the maker's `.medadv`.
        weights: the victim's weights, one file a member, where the maker's plan is not at hand.
        trust_code: whether a `python:` factory may be imported.
        code: folder where its module is looked for first.
        links: follow files of the corpus that are symbolic links.
        tell: told where they lead.

    Raises:
        SpecError: no such sample; weights or plan are missing; the corpus needs hdf5plugin.
        RunError: an input cannot be read.
        IntegrityError: the shard is damaged.
    """
    workspace = Workspace(root)
    manifest = open_corpus(root, links=links, tell=tell)
    require_codec(manifest.execution.codec)
    # Read from the corpus, not fitted again: its samples are in no corpus.
    common = shared(workspace, manifest.universal)
    results: list[Reproduced] = []
    inputs: list[str] = []
    origins: dict[int, Origin] = {}
    victim: Victim | None = None
    shape: tuple[int, ...] = ()
    for entry, receipt, numbers in _wanted(root, manifest, sample):
        with reading(root, *VALUES), open_shard(root / entry.path) as file:
            if victim is None or shape != file["image"].shape[1:]:
                shape = file["image"].shape[1:]
                victim = load_published_victim(manifest, workspace, shape, weights, trust_code, code)
            for number in numbers:
                rows = [i for i, record in enumerate(receipt.records) if record.place[0] == number]
                loaded, labels = _stored_batch(file, receipt, rows)
                if data is not None:
                    if receipt.generation not in origins:
                        origins[receipt.generation] = origin_of(workspace, receipt.generation, data)
                    loaded, changed = read_again(origins[receipt.generation], receipt.shard, loaded, labels, victim.scored)
                    inputs += changed
                results += _compare(file, receipt, rows, loaded, labels, manifest, victim, common)
    if sample is not None:
        results, inputs = [r for r in results if r.sample == sample], [i for i in inputs if i == sample]
    return Reproduction("stored clean images" if data is None else "sources", results, inputs, differences(manifest))


def _wanted(root: Path, manifest: Manifest, sample: str | None) -> Iterator[tuple[ShardEntry, Receipt, list[int]]]:
    """Shards with their receipts and the batches to make again."""
    for entry in manifest.shards:
        if sample is not None and sample.encode() not in (root / entry.receipt_path).read_bytes():
            continue
        receipt, problem = entry.receipt(root)
        if receipt is None:
            raise IntegrityError(f"{entry.path}: {problem}; run `medadv verify`")
        places = {record.place[0] for record in receipt.records if sample in (None, record.id)}
        if places:
            yield entry, receipt, sorted(places)
            if sample is not None:
                return
    if sample is not None:
        raise SpecError(f"no sample {sample} in this corpus; the ids stand in shards/*.json")


def _stored_batch(file: Any, receipt: Receipt, rows: Sequence[int]) -> tuple[list[Loaded], list[Label]]:
    loaded, labels = [], []
    for row in rows:
        record = receipt.records[row]
        image = np.asarray(file["image"][row])
        affine = np.asarray(file["affine"][row]) if "affine" in file else None
        region = np.asarray(file["region"][row]).astype(bool) if "region" in file else None
        axes = str(file.attrs["spatial_axes"])
        found = Sample(image, str(file.attrs["unit"]), axes, None, affine, spacing_of(affine, image.ndim - 1), region, record.facts)
        nowhere = PlannedSample(record.id, "", "", Source((), None))
        loaded.append(Loaded(nowhere, found, None, record.place))
        labels.append(read_answer(file, "label", row))
    return loaded, labels


def _stored_starts(file: Any, receipt: Receipt, attack: str, ids: Sequence[str], images: Array) -> tuple[Array, Array]:
    """`Starts` from the shard itself: the corpus that they are from is not asked."""
    rows = {record.id: row for row, record in enumerate(receipt.records)}
    about = file[f"attacks/{attack}"]
    given, warm = (np.stack([np.asarray(about[name][rows[sample]]) for sample in ids]) for name in (START, WARM))
    return given.astype(np.int16), warm


def _compare(
    file: Any,
    receipt: Receipt,
    rows: Sequence[int],
    loaded: Sequence[Loaded],
    labels: Sequence[Label],
    manifest: Manifest,
    victim: Victim,
    common: Mapping[str, Array],
) -> list[Reproduced]:
    recipe = Recipe(
        plan=receipt.plan,
        generation=receipt.generation,
        modality=manifest.data.modality,
        attacks=manifest.attacks,
        seed=manifest.execution.seed,
        device=device_of(manifest),
        first_shard=-1,
        shared=common,
        starts={name: partial(_stored_starts, file, receipt, name) for name, settings in manifest.attacks.items() if settings.warm},
    )
    results = []
    for name, settings in manifest.attacks.items():
        if not same_settings(file[f"attacks/{name}"].attrs, settings):
            raise IntegrityError(f"{receipt.shard}: settings of {name} differ from the manifest's")
        begun = settings.follows
        starts = {} if begun is None else {begun: np.stack([file[f"attacks/{begun}/perturbation"][row] for row in rows])}
        made = attack_samples(name, settings, recipe, loaded, labels, victim, starts)
        for place, (row, item) in enumerate(zip(rows, loaded, strict=True)):
            off = np.abs(made["perturbation"][place].astype(np.int32) - file[f"attacks/{name}/perturbation"][row])
            told = [(values[place], file[f"attacks/{name}/{key}"][row]) for key, values in made.items() if key != "perturbation"]
            same = all(np.array_equal(new, stored) for new, stored in told)
            results.append(Reproduced(item.planned.id, name, same and not off.any(), float((off > 0).mean()), int(off.max())))
    return results
