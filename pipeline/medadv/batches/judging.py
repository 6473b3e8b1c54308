"""How good are the answers? Inference in the planned batches, and what an attack did to each sample."""

from collections.abc import Sequence

import numpy as np
import torch

from medadv.batches.batch import on_device, planned
from medadv.batches.loading import Loaded
from medadv.corpus.receipt import Receipt
from medadv.datasets.labels import Array, Label, Prediction
from medadv.plan.recipe import Recipe
from medadv.victims.victim import Victim


def predict(images: Array, loaded: Sequence[Loaded], recipe: Recipe, victim: Victim) -> list[Prediction]:
    """The victim's answers to (n, C, *spatial) stored images, in fp32, in the planned batches."""
    predictions: list[Prediction] = []
    for indices in planned(loaded):
        predictions += victim.predict(on_device(images[indices], torch.device(recipe.device)))
    return predictions


def labels_of(loaded: Sequence[Loaded], recipe: Recipe, victim: Victim) -> list[Label]:
    """The given truths, or the victim's own answers for unlabelled samples."""
    given = [item.label for item in loaded if item.label is not None]
    if len(given) == len(loaded):
        return given
    images = np.stack([item.sample.image for item in loaded])
    return [victim.own_label(p) for p in predict(images, loaded, recipe, victim)]


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


def planned_batches(receipt: Receipt) -> list[list[int]]:
    """Rows of a shard, planned batch by planned batch."""
    numbers = [record.place[0] for record in receipt.records]
    return [[row for row, number in enumerate(numbers) if number == wanted] for wanted in dict.fromkeys(numbers)]
