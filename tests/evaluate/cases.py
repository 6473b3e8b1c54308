"""Samples with answers written by hand."""

from typing import Any

import numpy as np

from medadv.datasets.labels import Array, Boxes, Prediction
from medadv.evaluate.readings import Case


def mask_case(truth: Array, clean: Array, attacked: Array, group: str = "a", spacing: tuple[float, ...] | None = (1.0, 1.0)) -> Case:
    """Of masks (*spatial)."""
    given = [np.asarray(mask, np.uint8) for mask in (truth, clean, attacked)]
    return Case(given[0], Prediction(given[1]), Prediction(given[2]), group, spacing)


def answers(probabilities: Any, head: str) -> list[Prediction]:
    """As a classifier gives them.  probabilities: (n, K)."""
    rows = np.asarray(probabilities, np.float64)
    if head == "softmax":
        return [Prediction(np.asarray(row.argmax(), np.int64), row) for row in rows]
    return [Prediction((row >= 0.5).astype(np.uint8), row) for row in rows]


def class_cases(truths: Any, clean: Any, attacked: Any, head: str = "softmax") -> list[Case]:
    """Each sample a group of its own.  clean, attacked: (n, K) probabilities."""
    dtype = np.int64 if head == "softmax" else np.uint8
    rows = zip(truths, answers(clean, head), answers(attacked, head), strict=True)
    return [Case(np.asarray(truth, dtype), before, after, f"g{row}") for row, (truth, before, after) in enumerate(rows)]


def box_case(truth: Boxes, clean: Boxes, attacked: Boxes, group: str) -> Case:
    """Of boxes."""
    return Case(truth, Prediction(clean), Prediction(attacked), group)
