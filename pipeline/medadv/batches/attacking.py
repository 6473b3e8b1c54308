"""How is a batch attacked? The one place that calls the engine for samples of a corpus."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from medadv.attacks.engine import Watch, perturb
from medadv.attacks.feasible import first_iterates, start_seed
from medadv.attacks.universal import laid_on
from medadv.batches.batch import Batch, on_device, rows_by_batch
from medadv.batches.ensemble import NOBODY, UNTRIED, Worst, worst_of
from medadv.batches.judging import labels_of, predict
from medadv.batches.loading import Loaded, LoadedBatch
from medadv.datasets.labels import Array, Label
from medadv.plan.recipe import Recipe, Starts
from medadv.spec.attack import AttackSettings, in_order
from medadv.store.layout import MADE_BY, MEMBER_SCORE, PERTURBATION, START, WARM, perturbation_dtype
from medadv.store.reader import adversarial_image
from medadv.victims.several import against
from medadv.victims.victim import Victim


@dataclass(frozen=True, eq=False)
class Attacked:
    """delta: (n, C, *spatial) int16.  worst: what an ensemble knows of it, else None."""

    delta: Tensor
    worst: Worst | None = None


def attacked_batch(
    victim: Victim,
    batch: Batch,
    settings: AttackSettings,
    seeds: Sequence[int],
    watch: Watch | None = None,
    start: Tensor | None = None,
) -> Attacked:
    """Attack a batch that is on the victim's device.

    seeds: one a sample, for its random start.  start: (n, C, *spatial), in place of the first start.
    """
    victim = against(victim, settings)
    if settings.members:

        def member(part: Batch, own: AttackSettings, drawn: Sequence[int], begin: Tensor | None) -> Tensor:
            return _perturbed(victim, part, own, drawn, watch, begin)

        worst = worst_of(victim.scored, batch, settings, seeds, start, member)
        return Attacked(worst.delta, worst)
    return Attacked(_perturbed(victim, batch, settings, seeds, watch, start))


def _perturbed(
    victim: Victim, batch: Batch, settings: AttackSettings, seeds: Sequence[int], watch: Watch | None, start: Tensor | None
) -> Tensor:
    return perturb(
        victim.attacked,
        batch.images,
        victim.attacked.targets(batch.labels, batch.images.device, settings.goal),
        settings,
        lattice=batch.lattice,
        seeds=seeds,
        region=batch.region,
        spacing_mm=batch.spacing_mm,
        start=start,
        watch=watch,
    )


def start_seeds(run_seed: int, ids: Sequence[str], attack: str, restart: int = 0) -> list[int]:
    """The seeds of the samples' random starts."""
    return [start_seed(run_seed, sample, attack, restart) for sample in ids]


def attack_samples(
    name: str,
    settings: AttackSettings,
    recipe: Recipe,
    loaded: Sequence[Loaded],
    labels: Sequence[Label],
    victim: Victim,
    starts: Mapping[str, Array],
) -> dict[str, Array]:
    """What one attack made of samples, planned batch by planned batch: by the name of its array in the attack's group.

    `perturbation` (n, C, *spatial) in its stored type; of an ensemble also `made_by` (n,) and `member_score` (n, members), see `Worst`;
    where it starts from another corpus also `start`, in the form of `perturbation`, and `warm` (n,) uint8, see `Starts`.
    starts: perturbations of the same samples by the attacks that others start from.
    """
    device = torch.device(recipe.device)
    delta = np.zeros((len(loaded), *loaded[0].sample.image.shape), perturbation_dtype(settings.epsilon))
    members = settings.members or ()
    told: dict[str, Array] = {}
    if members:
        told = {MADE_BY: np.full(len(loaded), NOBODY, np.uint8), MEMBER_SCORE: np.full((len(loaded), len(members)), UNTRIED)}
    if settings.warm:
        told = {START: np.zeros_like(delta), WARM: np.zeros(len(loaded), np.uint8)}
    # A kernel in mm differs in voxels from one spacing to the next.
    in_mm = any(each.sigma_unit == "mm" for each in settings.each)
    for rows in rows_by_batch((item.place[0], item.sample.spacing_mm if in_mm else None) for item in loaded):
        ids = [loaded[row].planned.id for row in rows]
        batch = Batch.of([loaded[row].sample for row in rows], [labels[row] for row in rows], ids).on(device)
        if settings.fit is not None:
            one = torch.from_numpy(recipe.shared[name]).to(device)
            delta[rows] = laid_on(one, batch.images, settings, batch.lattice, batch.region).cpu().numpy()
            continue
        seeds = start_seeds(recipe.seed, ids, settings.drawn_as(name))
        start = None if settings.follows is None else on_device(starts[settings.follows][rows], device)
        if settings.warm:
            start, told[WARM][rows] = _begun(recipe.starts[name], settings, batch, [loaded[row].sample.image for row in rows], seeds)
            told[START][rows] = start.cpu().numpy()
        attacked = attacked_batch(victim, batch, settings, seeds, start=start)
        delta[rows] = attacked.delta.cpu().numpy()
        if attacked.worst is not None:
            told[MADE_BY][rows], told[MEMBER_SCORE][rows] = attacked.worst.made_by, attacked.worst.member_score
    return {PERTURBATION: delta, **told}


def _begun(begin: Starts, settings: AttackSettings, batch: Batch, images: Sequence[Array], seeds: Sequence[int]) -> tuple[Tensor, Array]:
    """The start of every sample of a batch, and which of them another corpus gave."""
    given, warm = begin(batch.ids, np.stack(images))
    random = [None if known else seed for known, seed in zip(warm, seeds, strict=True)] if settings.random_start else [None] * len(seeds)
    start = first_iterates(batch.images, on_device(given, batch.images.device), random, settings.epsilon, batch.lattice, batch.region)
    return start, warm


def rehearse(batch: LoadedBatch, recipe: Recipe, victim: Victim) -> None:
    """Attack and score a batch and keep nothing, to see whether the process lives through it."""
    if batch.loaded:
        device = torch.device(recipe.device)
        labels = labels_of(batch.loaded, victim.scored, device)
        images = np.stack([item.sample.image for item in batch.loaded])
        made: dict[str, Array] = {}
        for name in in_order(recipe.attacks):
            made[name] = attack_samples(name, recipe.attacks[name], recipe, batch.loaded, labels, victim, made)["perturbation"]
            judge = against(victim, recipe.attacks[name]).scored
            predict(judge, adversarial_image(images, made[name]), [list(range(len(images)))], device)
