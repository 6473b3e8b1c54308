"""What is done to loaded samples in memory, planned batch by planned batch: attack and look. The parts of a shard that need the victim."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from medadv.answers import Array, Label, Prediction
from medadv.attacks.engine import perturb
from medadv.attacks.norms import start_seed
from medadv.datasets.read import stacked_regions
from medadv.inputs import Batch, Loaded
from medadv.spec.attack import AttackSettings
from medadv.store.layout import perturbation_dtype
from medadv.store.reader import adversarial_image
from medadv.victims.base import Victim
from medadv_transforms.units import LATTICES


@dataclass(frozen=True)
class Recipe:
    """What a shard is made by, the same for all shards of a plan."""

    plan: str
    generation: int
    modality: str
    attacks: dict[str, AttackSettings]
    seed: int
    device: str
    first_shard: int
    """Index of the plan's first shard, one batch of which is run twice."""
    codec: str = "gzip"


def planned(loaded: Sequence[Loaded], *, one_spacing: bool = False) -> Iterator[list[int]]:
    """Indices of the loaded samples, planned batch by planned batch; on request cut further where the voxel spacing differs."""
    keys = [(item.place[0], item.sample.spacing_mm if one_spacing else None) for item in loaded]
    for key in dict.fromkeys(keys):
        yield [i for i, k in enumerate(keys) if k == key]


def predict(images: Array, loaded: Sequence[Loaded], recipe: Recipe, victim: Victim) -> list[Prediction]:
    """The victim's answers to (n, C, *spatial) stored images, in fp32, in the planned batches."""
    predictions: list[Prediction] = []
    for indices in planned(loaded):
        predictions += victim.predict(on_device(images[indices], torch.device(recipe.device)))
    return predictions


def on_device(images: Array, device: torch.device) -> Tensor:
    """Stored images as floating point where the attack runs. They travel in their stored type, a quarter of the bytes."""
    stored = torch.from_numpy(images)
    if device.type == "cuda":
        # From page-locked memory the copy need not be waited for.
        stored = stored.pin_memory().to(device, non_blocking=True)
    return stored.to(device, torch.float32)


def labels_of(loaded: Sequence[Loaded], recipe: Recipe, victim: Victim) -> list[Label]:
    """The given truths, or the victim's own answers for unlabelled samples."""
    given = [item.label for item in loaded if item.label is not None]
    if len(given) == len(loaded):
        return given
    images = np.stack([item.sample.image for item in loaded])
    return [victim.own_label(p) for p in predict(images, loaded, recipe, victim)]


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


def outcome(
    victim: Victim, clean: Sequence[Prediction], adversarial: Sequence[Prediction], labels: Sequence[Label], perturbation: Array
) -> dict[str, Array]:
    """Per-sample results of one attack, (n,) each: success, sizes of the perturbation in stored units, scores."""
    flat = perturbation.reshape(len(perturbation), -1).astype(np.int64)
    pairs = list(zip(clean, adversarial, labels, strict=True))
    return {
        "success": np.array([victim.succeeded(c, a, y) for c, a, y in pairs], np.uint8),
        "linf": np.abs(flat).max(1).astype(np.int32),
        "l2": np.sqrt((flat**2).sum(1)).astype(np.float64),
        "score_clean": np.array([victim.score(c, y) for c, _, y in pairs], np.float64),
        "score_adversarial": np.array([victim.score(a, y) for _, a, y in pairs], np.float64),
    }
