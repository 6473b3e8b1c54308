"""The sanity checks of a corpus: which stored samples they look at, and what goes into the manifest."""

import heapq
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from medadv.attacks.feasible import start_seed
from medadv.common.errors import IntegrityError, MedadvError, StoppedError
from medadv.corpus.folder import Workspace
from medadv.corpus.manifest import Manifest, SanityReport, read_manifest
from medadv.corpus.receipt import read_receipt
from medadv.datasets.labels import Array, Label
from medadv.evidence.attack_strength import sanity
from medadv.evidence.published import device_of, load_published_victim
from medadv.plan.frozen import FrozenPlan
from medadv.spec.attack import AttackSettings
from medadv.store.reader import open_shard, read_answer, spacing_of
from medadv.victims.loading import load_victim
from medadv_transforms.units import LATTICES

FEWEST = 8
SHARE = 8
"""The checks repeat the attack about six times, so they take at most one sample in this many, but `FEWEST` where there are as many."""
LOOKED_AT = 4
"""Samples opened for each one wanted: some have another shape, on some the victim is wrong."""


@dataclass(frozen=True)
class Chosen:
    """Samples of one shape, as stored: images (n, C, *spatial), perturbations per attack alike, regions (n, *spatial)."""

    ids: list[str]
    images: Array
    labels: list[Label]
    made: dict[str, Array]
    regions: Array | None
    spacing_mm: tuple[float, ...] | None


def corpus_sanity(
    workspace: Workspace,
    manifest: Manifest,
    plan: FrozenPlan,
    before: SanityReport | None,
    *,
    trust_code: bool = False,
    tick: Callable[[int, int], None] = lambda done, total: None,
) -> SanityReport | None:
    """What the manifest says under `sanity`; None where the spec asks for none.

    Args:
        workspace: a complete corpus.
        manifest: its manifest, as yet without these checks.
        plan: of the latest generation.
        before: what an earlier manifest said; kept as long as the samples it rests on are in the corpus.
        trust_code: whether a `python:` factory may be imported.
        tick: called with attacks done and in all; may raise to stop.

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
        reason = (str(error) or type(error).__name__).splitlines()[0]
        return SanityReport(samples=0, sample_ids=[], warnings=[f"sanity checks left out: {reason}"])


def earlier(workspace: Workspace) -> SanityReport | None:
    """What the manifest that is there says under `sanity`."""
    try:
        return read_manifest(workspace).sanity
    except IntegrityError:
        return None


def _measured(
    workspace: Workspace,
    manifest: Manifest,
    plan: FrozenPlan,
    places: Sequence[tuple[str, str, int]],
    wanted: int,
    trust_code: bool,
    tick: Callable[[int, int], None],
) -> SanityReport:
    chosen = _choose(workspace, places, 2 * wanted, manifest.attacks)
    shape = chosen.images.shape[1:]
    victim = load_published_victim(manifest, workspace, shape, None, trust_code)
    device = torch.device(device_of(manifest))
    second = None
    if plan.spec.second_victim is not None:
        settings, task = plan.spec.second_victim, manifest.data.task
        second, _ = load_victim(settings, task, Path(plan.base), device=device, sample_shape=shape, trust_code=trust_code)
    first = next(iter(manifest.attacks))
    return sanity(
        victim,
        chosen.images,
        chosen.labels,
        manifest.attacks,
        lattice=LATTICES[manifest.data.unit],
        seeds=[start_seed(manifest.execution.seed, sample, first) for sample in chosen.ids],
        device=device,
        regions=chosen.regions,
        spacing_mm=chosen.spacing_mm,
        batch_size=manifest.execution.batch_size,
        limit=wanted,
        second=second,
        made=chosen.made,
        tick=tick,
        ids=chosen.ids,
    )


def _places(workspace: Workspace, manifest: Manifest, lost: set[str]) -> Iterator[tuple[str, str, int]]:
    """Id, shard and row of every sample; takes those it meets out of `lost`."""
    for entry in manifest.shards:
        receipt = read_receipt(workspace, Path(entry.path).stem)
        for row, record in enumerate(receipt.records):
            lost.discard(record.id)
            yield record.id, entry.path, row


def _choose(workspace: Workspace, places: Sequence[tuple[str, str, int]], most: int, attacks: Mapping[str, AttackSettings]) -> Chosen:
    """The first samples by id, which is a hash and so a draw by lot, of the first one's shape, and voxel spacing where it matters."""
    kept: list[tuple[str, Array, Label, dict[str, Array], Array | None]] = []
    in_mm = any(settings.sigma_unit == "mm" for settings in attacks.values())
    like: tuple[Any, ...] | None = None
    spacing: tuple[float, ...] | None = None
    for sample, path, row in places:
        with open_shard(workspace.root / path) as file:
            image = np.asarray(file["image"][row])
            affine = np.asarray(file["affine"][row]) if "affine" in file else None
            here = spacing_of(affine, image.ndim - 1) if in_mm else None
            if like is None:
                like, spacing = (image.shape, here), here
            if (image.shape, here) != like:
                continue
            made = {name: np.asarray(file[f"attacks/{name}/perturbation"][row]) for name in attacks}
            region = np.asarray(file["region"][row]) if "region" in file else None
            kept.append((sample, image, read_answer(file, "label", row), made, region))
        if len(kept) == most:
            break
    regions = [np.ones(k[1].shape[1:], np.uint8) if k[4] is None else k[4] for k in kept]
    return Chosen(
        ids=[k[0] for k in kept],
        images=np.stack([k[1] for k in kept]),
        labels=[k[2] for k in kept],
        made={name: np.stack([k[3][name] for k in kept]) for name in attacks},
        regions=np.stack(regions) if any(k[4] is not None for k in kept) else None,
        spacing_mm=spacing,
    )
