"""What is done to loaded samples in memory, planned batch by planned batch: attack and look. The parts of a shard that need the victim."""

from collections.abc import Sequence

import numpy as np
import torch

from medadv.attacks.engine import perturb
from medadv.attacks.feasible import start_seed
from medadv.batches.batch import on_device, planned
from medadv.batches.judging import labels_of, predict
from medadv.batches.loading import Batch, Loaded
from medadv.datasets.labels import Array, Label
from medadv.datasets.sample import stacked_regions
from medadv.plan.recipe import Recipe
from medadv.spec.attack import AttackSettings
from medadv.store.layout import perturbation_dtype
from medadv.store.reader import adversarial_image
from medadv.victims.victim import Victim
from medadv_transforms.units import LATTICES


def attack_samples(
    name: str, settings: AttackSettings, recipe: Recipe, loaded: Sequence[Loaded], labels: Sequence[Label], victim: Victim
) -> Array:
    """Perturbations (n, C, *spatial) of one attack, in their stored type."""
    device = torch.device(recipe.device)
    delta = np.zeros((len(loaded), *loaded[0].sample.image.shape), perturbation_dtype(settings.epsilon))
    # A kernel in mm differs in voxels from one spacing to the next.
    for indices in planned(loaded, one_spacing=settings.sigma_unit == "mm"):
        items = [loaded[i] for i in indices]
        samples = [item.sample for item in items]
        images = on_device(np.stack([s.image for s in samples]), device)
        regions = stacked_regions(samples)
        found = perturb(
            victim,
            images,
            victim.targets([labels[i] for i in indices], device),
            settings,
            lattice=LATTICES[samples[0].unit],
            seeds=[start_seed(recipe.seed, item.planned.id, name) for item in items],
            region=None if regions is None else torch.from_numpy(regions).to(images),
            spacing_mm=samples[0].spacing_mm,
        )
        delta[indices] = found.cpu().numpy()
    return delta


def rehearse(batch: Batch, recipe: Recipe, victim: Victim) -> None:
    """Attack and score a batch and keep nothing, to see whether the process lives through it."""
    if batch.loaded:
        labels = labels_of(batch.loaded, recipe, victim)
        for name, settings in recipe.attacks.items():
            delta = attack_samples(name, settings, recipe, batch.loaded, labels, victim)
            images = np.stack([item.sample.image for item in batch.loaded])
            predict(adversarial_image(images, delta), batch.loaded, recipe, victim)
