"""How good are boxes? Average precision over images, the score of one image, what was found, missed and invented."""

import hashlib
from collections.abc import Iterable, Sequence

import numpy as np

from medadv.datasets.labels import Array, Boxes
from medadv.scoring.coco import Match, average_precision, match, overlaps

MATCH_IOU = 0.5


class AveragePrecision:
    """COCO average precision over images added one by one; keeps matches, not images."""

    def __init__(self, classes: Iterable[int]) -> None:
        """classes: every 1-based class that may count. Those that no image holds do not."""
        self.classes = sorted(set(classes))
        self.matches: list[tuple[bytes, dict[int, Match]]] = []

    def add(self, prediction: Boxes, truth: Boxes) -> None:
        """One image. prediction.scores must be given."""
        assert prediction.scores is not None
        found: dict[int, Match] = {}
        for value in self.classes:
            mine, true = prediction.classes == value, truth.classes == value
            if mine.any() or true.any():
                found[value] = match(prediction.boxes[mine], prediction.scores[mine], truth.boxes[true])
        # Equal scores are ranked in the order of the images. An order that follows from the content is as good as random, and the same
        # however the images were shuffled: a detector that gives every image the same scores gains nothing from theirs.
        self.matches.append((_content(prediction, truth), found))

    def result(self, chosen: Sequence[int] | None = None) -> dict[str, float]:
        """{"ap50", "ap"}: at IoU 0.5 and averaged over [0.5, 0.95]; 0 where nothing can be computed.

        chosen: indices of images in the order of adding, with repetitions as a bootstrap draws them; all by default.
        """
        matches = self.matches if chosen is None else [self.matches[i] for i in chosen]
        held = sorted({value for _, found in matches for value, each in found.items() if each.truths})
        if not held:
            return {"ap50": 0.0, "ap": 0.0}
        ranked = [found for _, found in sorted(matches, key=lambda pair: pair[0])]
        ap50, mean = average_precision([[found[value] for found in ranked if value in found] for value in held])
        return {"ap50": ap50, "ap": mean}


def _content(prediction: Boxes, truth: Boxes) -> bytes:
    arrays = (prediction.boxes, prediction.classes, prediction.scores, truth.boxes, truth.classes)
    return hashlib.sha256(b"".join(np.ascontiguousarray(array).tobytes() for array in arrays)).digest()


def image_score(prediction: Boxes, truth: Boxes) -> float:
    """AP at IoU 0.5 of one image; an image without boxes scores 1 minus its most confident detection."""
    assert prediction.scores is not None
    if not len(truth.boxes):
        return 1.0 - float(prediction.scores.max(initial=0.0))
    counter = AveragePrecision(truth.classes.tolist())
    counter.add(prediction, truth)
    return counter.result()["ap50"]


def confident(prediction: Boxes, threshold: float) -> Boxes:
    """The detections whose score reaches the threshold."""
    assert prediction.scores is not None
    keep = prediction.scores >= threshold
    return Boxes(prediction.boxes[keep], prediction.classes[keep], prediction.scores[keep])


def found(prediction: Boxes, truth: Boxes) -> Array:
    """Which true boxes are matched by a detection of their class at IoU >= 0.5; (m,) bool."""
    if not len(truth.boxes) or not len(prediction.boxes):
        return np.zeros(len(truth.boxes), bool)
    overlap = overlaps(truth.boxes, prediction.boxes) >= MATCH_IOU
    same = truth.classes[:, None] == prediction.classes[None, :]
    return np.asarray((overlap & same).any(1), bool)


def false_confidence(prediction: Boxes, truth: Boxes) -> float:
    """Sum of the scores of detections that meet no true box of their class: of two answers that are as wrong on their image, the one that
    lowers the average precision over all images more."""
    assert prediction.scores is not None
    return float(prediction.scores[~found(truth, prediction)].sum())


def false_margin(prediction: Boxes, truth: Boxes) -> float:
    """How far the surest detection that meets no true box of its class stands above the surest that does, in [-1, 1]; 0 is the score of
    one that is not there. Average precision over all images ranks both among those of all others: many false boxes of low scores, which
    `false_confidence` adds up, come after every true one and cost nothing.
    """
    assert prediction.scores is not None
    meets = found(truth, prediction)
    return float(prediction.scores[~meets].max(initial=0.0) - prediction.scores[meets].max(initial=0.0))


def counts(predictions: Sequence[Boxes], truths: Sequence[Boxes], threshold: float) -> tuple[float, float]:
    """Missed true boxes and invented (unmatched) detections per image, among detections of the threshold."""
    missed = invented = 0
    for prediction, truth in zip(predictions, truths, strict=True):
        sure = confident(prediction, threshold)
        missed += int((~found(sure, truth)).sum())
        invented += int((~found(truth, sure)).sum())
    return missed / max(1, len(truths)), invented / max(1, len(truths))
