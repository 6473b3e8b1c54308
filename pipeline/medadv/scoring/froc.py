"""How many boxes are found at so many false alarms? The free-response ROC curve of a detector, as LUNA16 reads it.

Setio et al., Validation, comparison, and combination of algorithms for automatic detection of pulmonary nodules (LUNA16), Medical Image
Analysis 2017: sensitivity at 1/8 to 8 false positives per scan, and the mean of the seven. As there, a true box is found by the surest
detection that meets it, and further detections that meet it are neither right nor false.
"""

from dataclasses import dataclass

import numpy as np

from medadv.datasets.labels import Array, Boxes
from medadv.scoring.boxes import MATCH_IOU
from medadv.scoring.coco import overlaps

RATES = (0.125, 0.25, 0.5, 1.0, 2.0, 4.0, 8.0)
"""False positives per image at which sensitivity is read."""


@dataclass(frozen=True, eq=False)
class Alarms:
    """What a detector says of one class in one image.

    found: (m,) score of the surest detection that meets each true box, -inf where none does.  false: (k,) scores of the detections that
    meet no true box.
    """

    found: Array
    false: Array


def alarms(answer: Boxes, truth: Boxes, value: int, iou: float = MATCH_IOU) -> Alarms:
    """Of one image.  value: the class.  iou: overlap from which a detection meets a true box.  answer.scores must be given."""
    assert answer.scores is not None
    mine, true = answer.classes == value, truth.classes == value
    scores = answer.scores[mine].astype(np.float64)
    if not mine.any() or not true.any():
        return Alarms(np.full(int(true.sum()), -np.inf), scores)
    meets = overlaps(truth.boxes[true], answer.boxes[mine]) >= iou
    return Alarms(np.where(meets, scores, -np.inf).max(1), scores[~meets.any(0)])


@dataclass(frozen=True, eq=False)
class Curve:
    """The alarms of many images.  found: (m,) and false: (k,), as in `Alarms`.  images: how many."""

    found: Array
    false: Array
    images: int

    @classmethod
    def of(cls, each: list[Alarms]) -> "Curve":
        """Of images, with repetitions as a bootstrap draws them."""
        found = np.concatenate([one.found for one in each]) if each else np.zeros(0)
        false = np.concatenate([one.false for one in each]) if each else np.zeros(0)
        return cls(found, false, len(each))

    def sensitivities(self) -> Array:
        """At each of `RATES`, (7,): on straight lines between the measured points, level beyond the last; NaN without a true box."""
        if not len(self.found) or not self.images:
            return np.full(len(RATES), np.nan)
        thresholds = np.unique(np.concatenate([self.found[np.isfinite(self.found)], self.false]))[::-1]
        false = np.array([0, *_reaching(self.false, thresholds)]) / self.images
        sensitivity = np.array([0, *_reaching(self.found, thresholds)]) / len(self.found)
        return np.interp(RATES, false, sensitivity)

    def at(self, threshold: float) -> tuple[float, float]:
        """Sensitivity and false positives per image among the detections of a threshold; NaN where there is nothing to divide by."""
        sensitivity = float((self.found >= threshold).mean()) if len(self.found) else float("nan")
        return sensitivity, float((self.false >= threshold).sum()) / self.images if self.images else float("nan")


def _reaching(scores: Array, thresholds: Array) -> Array:
    """How many scores reach each threshold."""
    return np.asarray(len(scores) - np.searchsorted(np.sort(scores), thresholds, side="left"))
