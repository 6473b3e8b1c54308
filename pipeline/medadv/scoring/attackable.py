"""Could an attack on this sample succeed at all? Success is counted over the samples whose clean answer left something to destroy."""

import numpy as np

from medadv.datasets.labels import Array, Boxes, Label
from medadv.scoring.boxes import confident, found

DICE_DROP = 0.1
"""An attack on a mask succeeds when it lowers the mean Dice by this much."""


def some_class_right(clean: Label, truth: Label) -> bool:
    """A wrong class is only driven further from the truth; of several labels one right suffices."""
    return bool((np.asarray(clean) == np.asarray(truth)).any())


def labels_right(answer: Label, truth: Label) -> float:
    """Share of the labels that are right, 0 to 1; of one class 0 or 1."""
    return float((np.asarray(answer) == np.asarray(truth)).mean())


def dice_to_lose(scores: Array) -> Array:
    """Which of these Dice allow the drop that counts."""
    return np.asarray(scores >= DICE_DROP)


def box_to_lose(clean: Boxes, truth: Boxes, threshold: float) -> bool:
    """A true box found by a detection of the threshold, or none invented where there is none."""
    sure = confident(clean, threshold)
    return bool(found(sure, truth).any()) if len(truth.boxes) else not len(sure.boxes)


def answer_to_lose(clean: Label, truth: Label, threshold: float) -> bool:
    """Either of both, by what the answer is.  threshold: score from which a detection counts."""
    if isinstance(truth, Boxes) and isinstance(clean, Boxes):
        return box_to_lose(clean, truth, threshold)
    return some_class_right(clean, truth)
