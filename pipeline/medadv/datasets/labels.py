"""What victims answer and what they are held against: one small type for boxes, plain arrays for the rest."""

from dataclasses import dataclass
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt

Array: TypeAlias = npt.NDArray[Any]


@dataclass(frozen=True)
class Boxes:
    """Boxes of one image.

    boxes: (m, 2 * dims) float32, x first, in pixels of the stored grid.  classes: (m,) int64, 1-based.  scores: (m,) float32 for
    predictions, None for truths.
    """

    boxes: Array
    classes: Array
    scores: Array | None = None

    @classmethod
    def of(cls, boxes: Any, classes: Any, scores: Any = None, dims: int = 2) -> "Boxes":
        """From anything array-like, shapes and types as documented, also when empty."""
        return cls(
            np.asarray(boxes, np.float32).reshape(-1, 2 * dims),
            np.asarray(classes, np.int64).reshape(-1),
            None if scores is None else np.asarray(scores, np.float32).reshape(-1),
        )


Label: TypeAlias = Array | Boxes
"""Classification: () int64, or (K,) uint8 for several labels; segmentation: (*spatial) or (K, *spatial) uint8; detection: Boxes."""


def same_label(first: Label, second: Label) -> bool:
    """Whether two truths, or two answers, are equal. Boxes are equal with their classes and in their order, whatever their scores."""
    if isinstance(first, Boxes) and isinstance(second, Boxes):
        return np.array_equal(first.boxes, second.boxes) and np.array_equal(first.classes, second.classes)
    return not isinstance(first, Boxes) and not isinstance(second, Boxes) and np.array_equal(first, second)


@dataclass(frozen=True)
class Prediction:
    """One sample's answer in the form of its label, with class probabilities where the task has them ((K,) float64)."""

    answer: Label
    probabilities: Array | None = None
