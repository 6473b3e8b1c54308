"""What would an answer score that ignores the image? The best constant answers that truths alone give, against which a victim is held."""

from collections.abc import Sequence

import numpy as np

from medadv.datasets.labels import Array, Boxes
from medadv.scoring.boxes import MATCH_IOU
from medadv.scoring.coco import overlaps

IGNORE = 255
POOL = 2000
"""Boxes of a class that the constant one is chosen among, spread evenly: every pair of them is compared."""


def constant_accuracy(truths: Array) -> float:
    """Share of the commonest class of (n,) indices; of (n, K) labels the mean over them."""
    if truths.ndim == 1:
        return float(np.unique(truths, return_counts=True)[1].max() / len(truths))
    on = truths.mean(0)
    return float(np.maximum(on, 1 - on).mean())


def constant_boxes(truths: Sequence[Boxes]) -> Boxes:
    """One box a class, sure of itself: the true box that matches most boxes of its class.  At least one truth holds a box."""
    boxes = np.concatenate([truth.boxes for truth in truths if len(truth.boxes)])
    classes = np.concatenate([truth.classes for truth in truths])
    held = np.unique(classes)
    chosen = [_best(boxes[classes == value]) for value in held]
    return Boxes.of(np.stack(chosen), held, np.ones(len(held)), dims=boxes.shape[1] // 2)


def _best(boxes: Array) -> Array:
    pool = boxes[np.linspace(0, len(boxes) - 1, min(POOL, len(boxes))).astype(int)]
    matched = (overlaps(pool, pool) >= MATCH_IOU).sum(axis=1)
    return np.asarray(pool[int(matched.argmax())])


def constant_dice(masks: Array, planes: bool) -> float:
    """Mean Dice that the pixelwise commonest mask has, as a segmenter's answers are scored.

    masks: (n, *spatial) class indices, or with planes (n, K, *spatial) of 0 and 1; 255 counts nowhere. Of equally common classes the lowest
    is taken.
    """
    known = masks != IGNORE
    if planes:
        common = ((masks == 1).sum(0) > (masks == 0).sum(0)).astype(np.uint8)
    else:
        highest = int(masks[known].max(initial=0))
        common, count = np.zeros(masks.shape[1:], np.uint8), (masks == 0).sum(0)
        for value in range(1, highest + 1):
            more = (masks == value).sum(0)
            common, count = np.where(more > count, np.uint8(value), common), np.maximum(count, more)
    return float(np.mean([_mask_dice(common, truth, planes) for truth in masks]))


def _mask_dice(answer: Array, truth: Array, planes: bool) -> float:
    """Mean over the foreground classes that the truth holds; without any, 1 for an empty answer, else 0."""
    known = truth != IGNORE
    if planes:
        pairs = [(a == 1, t == 1, k) for a, t, k in zip(answer, truth, known, strict=True)]
    else:
        pairs = [(answer == value, truth == value, known) for value in np.union1d(answer, truth) if value not in (0, IGNORE)]
    values = [2 * (a & t).sum() / ((a & k).sum() + t.sum()) for a, t, k in pairs if t.any()]
    return float(np.mean(values)) if values else float(not any((a & k).any() for a, _, k in pairs))
