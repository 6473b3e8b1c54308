"""Corpus metrics from what the shards hold. The first is the headline; NumPy is all that they need."""

from collections.abc import Iterable

import numpy as np

from medadv.datasets.labels import Array, Boxes, Label
from medadv.scoring.boxes import AveragePrecision

HEADLINE = {"classification": ("auc", "accuracy"), "segmentation": ("dice",), "detection": ("ap50",)}
"""Metric shown first, and what stands in for it where it is not defined (AUC needs two classes)."""


def corpus_metrics(task: str, samples: Iterable[tuple[Label, Label, float]]) -> dict[str, float]:
    """Metrics over samples of (truth, prediction, score).

    classification: accuracy, and AUC for two classes; segmentation: mean Dice; detection: AP at IoU 0.5 and over [0.5, 0.95],
    averaged over the classes that the truths hold.
    """
    rows = list(samples)
    if not rows:
        return {}
    if task == "detection":
        return _detection([(truth, answer) for truth, answer, _ in rows])
    scores = np.array([score for _, _, score in rows], np.float64)
    if task == "segmentation":
        return {"dice": float(scores.mean())}
    truths = np.stack([np.asarray(truth) for truth, _, _ in rows])
    answers = np.stack([np.asarray(answer) for _, answer, _ in rows])
    metrics = {"accuracy": float((truths == answers).mean())}
    if truths.ndim == 1 and set(truths.tolist()) == {0, 1}:
        # With two classes the probability of the truth gives the probability of class 1.
        positive = np.where(truths == 1, scores, 1 - scores)
        metrics = {"auc": area_under_roc(positive, truths), **metrics}
    return metrics


def area_under_roc(scores: Array, truths: Array) -> float:
    """Share of pairs of a one and a zero in which the one scores higher; equal scores count half.

    scores: (n,).  truths: (n,) of 0 and 1, both present.
    """
    ones = truths == 1
    _, places = np.unique(scores, return_inverse=True)
    above, below = np.bincount(places[ones], minlength=len(scores)), np.bincount(places[~ones], minlength=len(scores))
    pairs = above * (np.cumsum(below) - below / 2)
    return float(pairs.sum() / (int(ones.sum()) * int((~ones).sum())))


def _detection(pairs: list[tuple[Label, Label]]) -> dict[str, float]:
    boxes = [(truth, answer) for truth, answer in pairs if isinstance(truth, Boxes) and isinstance(answer, Boxes)]
    counter = AveragePrecision(int(c) for truth, _ in boxes for c in truth.classes)
    for truth, answer in boxes:
        counter.add(answer, truth)
    return counter.result()


def headline(task: str, metrics: dict[str, float]) -> str:
    """Name of the metric to show first."""
    return next((name for name in HEADLINE[task] if name in metrics), HEADLINE[task][-1])
