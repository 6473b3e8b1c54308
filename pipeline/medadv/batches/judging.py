"""How good are the answers? Inference in the planned batches, and what an attack did to each sample.

What counts as success is the task's own affair: `succeeded` and `success_rule` in `victims/tasks/`.
"""

from collections.abc import Iterable, Sequence

import numpy as np
import torch

from medadv.batches.batch import Batch, on_device, rows_by_batch
from medadv.batches.loading import Loaded
from medadv.datasets.labels import Array, Label, Prediction
from medadv.spec.goal import Goal
from medadv.store.layout import ATTACKABLE
from medadv.victims.victim import TaskModel


def predict(judge: TaskModel, images: Array, batches: Iterable[Sequence[int]], device: torch.device) -> list[Prediction]:
    """Answers in fp32 to (n, C, *spatial) stored images, in the images' order; batches: rows that go through the model together."""
    answers: dict[int, Prediction] = {}
    for rows in batches:
        answers |= dict(zip(rows, judge.predict(on_device(images[list(rows)], device)), strict=True))
    return [answers[row] for row in sorted(answers)]


def planned_batches(loaded: Sequence[Loaded]) -> list[list[int]]:
    """Rows of loaded samples, planned batch by planned batch."""
    return rows_by_batch(item.place[0] for item in loaded)


def labels_of(loaded: Sequence[Loaded], judge: TaskModel, device: torch.device) -> list[Label]:
    """The given truths, and the model's own answers for samples without one."""
    given = [item.label for item in loaded if item.label is not None]
    if len(given) == len(loaded):
        return given
    images = np.stack([item.sample.image for item in loaded])
    own = predict(judge, images, planned_batches(loaded), device)
    return [judge.own_label(answer) if item.label is None else item.label for item, answer in zip(loaded, own, strict=True)]


def batch_of(loaded: Sequence[Loaded], judge: TaskModel, device: torch.device) -> Batch:
    """Loaded samples of one planned batch on a device, with a truth each."""
    samples, ids = [item.sample for item in loaded], [item.planned.id for item in loaded]
    return Batch.of(samples, labels_of(loaded, judge, device), ids).on(device)


def outcome(
    judge: TaskModel,
    clean: Sequence[Prediction],
    adversarial: Sequence[Prediction],
    labels: Sequence[Label],
    perturbation: Array,
    goal: Goal,
) -> dict[str, Array]:
    """Per-sample results of one attack, (n,) each: success, sizes of the perturbation in stored units, scores.

    For goals other than `untruth` also whether a sample could be attacked, which does not follow from the other results.
    """
    flat = perturbation.reshape(len(perturbation), -1).astype(np.int64)
    able = {} if goal == "untruth" else {ATTACKABLE: attackable(judge, clean, labels, goal).astype(np.uint8)}
    return {
        "success": successes(judge, clean, adversarial, labels, goal).astype(np.uint8),
        "linf": np.abs(flat).max(1).astype(np.int32),
        "l2": np.sqrt((flat**2).sum(1)).astype(np.float64),
        "score_clean": scores(judge, clean, labels),
        "score_adversarial": scores(judge, adversarial, labels),
        **able,
    }


def successes(
    judge: TaskModel, clean: Sequence[Prediction], adversarial: Sequence[Prediction], labels: Sequence[Label], goal: Goal
) -> Array:
    """Whether the attack worked on each sample, (n,) bool."""
    return np.array([judge.succeeded(c, a, y, goal) for c, a, y in zip(clean, adversarial, labels, strict=True)], bool)


def attackable(judge: TaskModel, clean: Sequence[Prediction], labels: Sequence[Label], goal: Goal) -> Array:
    """Whether there is anything right about each clean answer that an attack could destroy, or it is not yet at the goal, (n,) bool."""
    return np.array([judge.vulnerable(c, y, goal) for c, y in zip(clean, labels, strict=True)], bool)


def scores(judge: TaskModel, answers: Sequence[Prediction], labels: Sequence[Label]) -> Array:
    """How right each answer is, (n,) float64."""
    return np.array([judge.score(answer, label) for answer, label in zip(answers, labels, strict=True)], np.float64)
