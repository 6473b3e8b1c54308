"""How is a batch attacked? The one place that calls the engine for samples of a corpus."""

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from medadv.attacks.engine import Watch, perturb
from medadv.attacks.feasible import start_seed
from medadv.batches.batch import Batch, rows_by_batch
from medadv.batches.judging import labels_of, predict
from medadv.batches.loading import Loaded, LoadedBatch
from medadv.datasets.labels import Array, Label
from medadv.plan.recipe import Recipe
from medadv.spec.attack import AttackSettings
from medadv.store.layout import perturbation_dtype
from medadv.store.reader import adversarial_image
from medadv.victims.victim import Victim


def attack_batch(victim: Victim, batch: Batch, settings: AttackSettings, seeds: Sequence[int], watch: Watch | None = None) -> Tensor:
    """Perturbation (n, C, *spatial) int16 of a batch that is on the victim's device; seeds: one a sample, for its random start."""
    return perturb(
        victim.attacked,
        batch.images,
        victim.attacked.targets(batch.labels, batch.images.device),
        settings,
        lattice=batch.lattice,
        seeds=seeds,
        region=batch.region,
        spacing_mm=batch.spacing_mm,
        watch=watch,
    )


def start_seeds(run_seed: int, ids: Sequence[str], attack: str, restart: int = 0) -> list[int]:
    """The seeds of the samples' random starts."""
    return [start_seed(run_seed, sample, attack, restart) for sample in ids]


def attack_samples(
    name: str, settings: AttackSettings, recipe: Recipe, loaded: Sequence[Loaded], labels: Sequence[Label], victim: Victim
) -> Array:
    """Perturbations (n, C, *spatial) of one attack, in their stored type, planned batch by planned batch."""
    device = torch.device(recipe.device)
    delta = np.zeros((len(loaded), *loaded[0].sample.image.shape), perturbation_dtype(settings.epsilon))
    # A kernel in mm differs in voxels from one spacing to the next.
    in_mm = settings.sigma_unit == "mm"
    for rows in rows_by_batch((item.place[0], item.sample.spacing_mm if in_mm else None) for item in loaded):
        ids = [loaded[row].planned.id for row in rows]
        batch = Batch.of([loaded[row].sample for row in rows], [labels[row] for row in rows], ids).on(device)
        delta[rows] = attack_batch(victim, batch, settings, start_seeds(recipe.seed, ids, name)).cpu().numpy()
    return delta


def rehearse(batch: LoadedBatch, recipe: Recipe, victim: Victim) -> None:
    """Attack and score a batch and keep nothing, to see whether the process lives through it."""
    if batch.loaded:
        device = torch.device(recipe.device)
        labels = labels_of(batch.loaded, victim.scored, device)
        images = np.stack([item.sample.image for item in batch.loaded])
        for name, settings in recipe.attacks.items():
            delta = attack_samples(name, settings, recipe, batch.loaded, labels, victim)
            predict(victim.scored, adversarial_image(images, delta), [list(range(len(images)))], device)
