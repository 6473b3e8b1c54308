"""Which detections are right, and what is their average precision? COCO's matching and its precision at 101 recalls.

Written from the definition of the COCO detection task (Lin et al., ECCV 2014, and its evaluation), with NumPy alone, so that who checks a
corpus's figures loads no network library. MONAI's `COCOMetric` and `matching_batch` give the same bits (tests/scoring/test_coco.py).
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from medadv.datasets.labels import Array

IOU_STEPS = np.linspace(0.5, 0.95, 10)
"""Overlaps from which a detection is right, each with an average precision of its own; the first is AP at 0.5."""
MAX_DETECTIONS = 100
RECALLS = np.linspace(0.0, 1.0, 101)
LEAST = np.float32(np.finfo(np.float32).eps)
"""Keeps the overlap of two empty boxes from being 0 / 0."""


@dataclass(frozen=True)
class Match:
    """The detections of one class in one image, the surest first.

    scores: (m,).  right: (10, m) bool, at each of IOU_STEPS.  truths: how many boxes of the class there are.
    """

    scores: Array
    right: Array
    truths: int


def overlaps(first: Array, second: Array) -> Array:
    """Intersection over union of each pair, (n, m) float32.

    first, second: (n, 2 * dims) and (m, 2 * dims) float32, lower corner first.  ValueError: a box has a negative or infinite size.
    """
    first, second = np.asarray(first, np.float32), np.asarray(second, np.float32)
    dims = first.shape[1] // 2
    sizes = np.minimum(first[:, None, dims:], second[:, dims:]) - np.maximum(first[:, None, :dims], second[:, :dims])
    shared = _product(np.maximum(sizes, np.float32(0)))
    union = _volumes(first)[:, None] + _volumes(second) - shared
    return np.asarray(shared / (union + LEAST), np.float32)


def _volumes(boxes: Array) -> Array:
    dims = boxes.shape[1] // 2
    sizes = boxes[:, dims:] - boxes[:, :dims]
    with np.errstate(over="ignore", invalid="ignore"):
        volumes = _product(sizes)
    if (sizes < 0).any() or not np.isfinite(volumes).all():
        raise ValueError("boxes of negative or infinite size")
    return volumes


def _product(sizes: Array) -> Array:
    """Along the last axis from its first entry on, so that the last bit does not depend on how an array is reduced."""
    result = sizes[..., 0]
    for axis in range(1, sizes.shape[-1]):
        result = result * sizes[..., axis]
    return np.asarray(result)


def match(boxes: Array, scores: Array, truths: Array) -> Match:
    """Give each detection the true box that it overlaps most of those that no surer one took.

    boxes: (m, 2 * dims) and scores (m,) of one class in one image.  truths: (k, 2 * dims). Of equal overlaps the later true box is taken.
    """
    order = np.argsort(-scores, kind="stable")[:MAX_DETECTIONS]
    right = np.zeros((len(IOU_STEPS), len(order)), bool)
    if len(order) and len(truths):
        found = overlaps(boxes[order], truths).astype(np.float64)
        for row, least in zip(right, IOU_STEPS, strict=True):
            free = found.copy()
            for place, overlap in enumerate(free):
                best = len(overlap) - 1 - int(overlap[::-1].argmax())
                if overlap[best] >= least:
                    row[place] = True
                    free[:, best] = -1
    return Match(scores[order], right, len(truths))


def average_precision(classes: Sequence[Sequence[Match]]) -> tuple[float, float]:
    """AP at an overlap of 0.5, and its mean over IOU_STEPS.

    classes: for each class the matches of the images that hold a box or a detection of it, at least one box in all. Detections of one
    score are ranked in the order of the images.
    """
    precision = np.stack([_precision(matches) for matches in classes], axis=-1)
    return float(precision[0].mean()), float(precision.mean())


def _precision(matches: Sequence[Match]) -> Array:
    """Precision of one class at each overlap and recall, (10, 101)."""
    order = np.argsort(-np.concatenate([match.scores for match in matches]), kind="stable")
    right = np.concatenate([match.right for match in matches], axis=1)[:, order]
    hits, misses = (np.cumsum(each, axis=1).astype(np.float32) for each in (right, ~right))
    recall = hits / np.float32(sum(match.truths for match in matches))
    precision = hits / (misses + hits + np.spacing(1.0))
    # The best precision at this recall or a larger one.
    precision = np.maximum.accumulate(precision[:, ::-1], axis=1)[:, ::-1]
    # Recalls that are never reached have a precision of 0.
    precision = np.concatenate([precision, np.zeros((len(precision), 1))], axis=1)
    reached = [np.searchsorted(each, RECALLS, side="left") for each in recall]
    return np.take_along_axis(precision, np.stack(reached), axis=1)
