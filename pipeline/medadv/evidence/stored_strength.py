"""The sanity checks of a corpus: which stored samples they look at, and what goes into the manifest."""

import heapq
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch

from medadv.batches.attacking import start_seeds
from medadv.batches.batch import Batch
from medadv.common.errors import IntegrityError, MedadvError, StoppedError, first_line
from medadv.corpus.folder import Workspace
from medadv.corpus.manifest import Manifest, SanityReport, read_manifest
from medadv.corpus.receipt import read_receipt
from medadv.datasets.labels import Array, Label
from medadv.evidence.attack_strength import sanity
from medadv.evidence.published import device_of, load_published_victim
from medadv.plan.frozen import FrozenPlan
from medadv.spec.attack import AttackSettings
from medadv.store.layout import PERTURBATION, START
from medadv.store.reader import open_shard, read_answer, spacing_of
from medadv.victims.loading import VictimRequest
from medadv.victims.several import against
from medadv_transforms.units import LATTICES, Lattice

FEWEST = 8
SHARE = 8
"""The checks repeat the attack about six times, so they take at most one sample in this many, but `FEWEST` where there are as many."""
LOOKED_AT = 4
"""Samples opened for each one wanted: some have another shape, on some the victim is wrong."""


def corpus_sanity(
    workspace: Workspace,
    manifest: Manifest,
    plan: FrozenPlan,
    before: SanityReport | None,
    *,
    trust_code: bool = False,
    tick: Callable[[int, int], None] = lambda done, total: None,
    tell: Callable[[str], None] = lambda text: None,
) -> SanityReport | None:
    """What the manifest says under `sanity`; None where the spec asks for none.

    Args:
        workspace: a complete corpus.
        manifest: its manifest, as yet without these checks.
        plan: of the latest generation.
        before: what an earlier manifest said; kept as long as the samples it rests on are in the corpus.
        trust_code: whether a `python:` factory may be imported.
        tick: called with attacks done and in all; may raise to stop.
        tell: receives why there are no checks, in words that may name files and so are not published.

    Raises:
        StoppedError: from `tick`. Any other failure becomes the reason why there are no checks: the samples are worth as much without.
    """
    wanted = min(plan.spec.sanity_samples, max(FEWEST, manifest.samples // SHARE))
    if not wanted or not manifest.samples:
        return None
    lost = set(before.sample_ids) if before else set()
    # One pass that keeps only what it needs: a corpus may have millions of samples.
    places = heapq.nsmallest(LOOKED_AT * wanted, _places(workspace, manifest, lost))
    if before and before.samples and not lost:
        return before
    try:
        return _measured(workspace, manifest, plan, places, wanted, trust_code, tick)
    except StoppedError:
        raise
    except (MedadvError, RuntimeError, MemoryError, ValueError) as error:
        tell(f"sanity checks left out: {first_line(error)}")
        return SanityReport(samples=0, sample_ids=[], warnings=[f"sanity checks left out: {type(error).__name__}; the run's log says more"])


def earlier(workspace: Workspace) -> SanityReport | None:
    """What the manifest that is there says under `sanity`."""
    try:
        return read_manifest(workspace).sanity
    except IntegrityError:
        return None


def first_samples(workspace: Workspace, manifest: Manifest, count: int) -> Batch:
    """At most `count` stored samples of one shape, a draw by lot that is the same every time, not yet on a device."""
    places = heapq.nsmallest(LOOKED_AT * count, _places(workspace, manifest, set()))
    batch, _, _ = _choose(workspace, places, count, {}, LATTICES[manifest.data.unit])
    return batch


def _measured(
    workspace: Workspace,
    manifest: Manifest,
    plan: FrozenPlan,
    places: Sequence[tuple[str, str, int]],
    wanted: int,
    trust_code: bool,
    tick: Callable[[int, int], None],
) -> SanityReport:
    batch, made, starts = _choose(workspace, places, 2 * wanted, manifest.attacks, LATTICES[manifest.data.unit])
    shape = tuple(batch.images.shape[1:])
    # Of several victims, the first attack's, and what was made against it.
    name, first = next(iter(manifest.attacks.items()))
    victim = against(load_published_victim(manifest, workspace, shape, (), trust_code), first)
    own = {name: attack for name, attack in manifest.attacks.items() if attack.victim == first.victim}
    device = torch.device(device_of(manifest))
    second = None
    if plan.spec.second_victim is not None:
        request = VictimRequest(plan.spec.second_victim, victim.task, Path(plan.base), trust_code, manifest.x_first)
        second = request.load(device, shape).scored
    return sanity(
        victim,
        batch.on(device),
        own,
        seeds=start_seeds(manifest.execution.seed, batch.ids, first.drawn_as(name)),
        batch_size=manifest.execution.batch_size,
        limit=wanted,
        second=second,
        made={name: deltas for name, deltas in made.items() if name in own},
        starts=starts,
        tick=tick,
    )


def _places(workspace: Workspace, manifest: Manifest, lost: set[str]) -> Iterator[tuple[str, str, int]]:
    """Id, shard and row of every sample; takes those it meets out of `lost`."""
    for entry in manifest.shards:
        receipt = read_receipt(workspace, Path(entry.path).stem)
        for row, record in enumerate(receipt.records):
            lost.discard(record.id)
            yield record.id, entry.path, row


def _choose(
    workspace: Workspace, places: Sequence[tuple[str, str, int]], most: int, attacks: Mapping[str, AttackSettings], lattice: Lattice
) -> tuple[Batch, dict[str, Array], dict[str, Array]]:
    """The first samples by id, which is a hash and so a draw by lot, of the first one's shape, and voxel spacing where it matters; and the
    stored perturbations (n, C, *spatial) of each attack, and the stored starts."""
    ids: list[str] = []
    images: list[Array] = []
    labels: list[Label] = []
    regions: list[Array | None] = []
    made: dict[str, list[Array]] = {name: [] for name in attacks}
    starts: dict[str, list[Array]] = {name: [] for name, settings in attacks.items() if settings.warm}
    in_mm = any(each.sigma_unit == "mm" for settings in attacks.values() for each in settings.each)
    like: tuple[Any, ...] | None = None
    for sample, path, row in places:
        with open_shard(workspace.root / path) as file:
            image = np.asarray(file["image"][row])
            affine = np.asarray(file["affine"][row]) if "affine" in file else None
            here = (image.shape, spacing_of(affine, image.ndim - 1) if in_mm else None)
            like = like or here
            if here != like:
                continue
            ids.append(sample)
            images.append(image)
            labels.append(read_answer(file, "label", row))
            regions.append(np.asarray(file["region"][row]) if "region" in file else None)
            for key, found in ((PERTURBATION, made), (START, starts)):
                for name, deltas in found.items():
                    deltas.append(np.asarray(file[f"attacks/{name}/{key}"][row]))
        if len(ids) == most:
            break
    region = None
    if any(r is not None for r in regions):
        everywhere = np.ones(images[0].shape[1:], bool)
        region = torch.from_numpy(np.stack([everywhere if r is None else r != 0 for r in regions])[:, None])
    batch = Batch(torch.from_numpy(np.stack(images)), labels, ids, lattice, region, like[1] if like else None)
    whole, begun = ({name: np.stack(deltas) for name, deltas in found.items()} for found in (made, starts))
    return batch, whole, begun
