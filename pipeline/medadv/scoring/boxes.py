"""Average precision and matching of boxes, by MONAI's COCO metric."""

import hashlib
from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np
from monai.apps.detection.metrics.coco import COCOMetric
from monai.apps.detection.metrics.matching import matching_batch
from monai.data.box_utils import box_iou

from medadv.datasets.labels import Boxes

IOU_STEPS = (0.5, 0.95, 0.05)
MAX_DETECTIONS = 100
MATCH_IOU = 0.5


class AveragePrecision:
    """COCO average precision over images added one by one; keeps matches, not images."""

    def __init__(self, classes: Iterable[int]) -> None:
        """classes: every 1-based class that may count. Those that no image holds do not: MONAI would average a -1 in for each."""
        self.classes = sorted(set(classes))
        self.matches: list[tuple[bytes, Any]] = []

    def add(self, prediction: Boxes, truth: Boxes) -> None:
        """One image. prediction.scores must be given."""
        assert prediction.scores is not None
        index = {c: i for i, c in enumerate(self.classes)}
        known = np.array([c in index for c in prediction.classes], bool)
        (match,) = matching_batch(
            iou_fn=box_iou,
            iou_thresholds=_metric(self.classes).iou_thresholds,
            pred_boxes=[prediction.boxes[known]],
            pred_classes=[np.array([index[c] for c in prediction.classes[known]], int)],
            pred_scores=[prediction.scores[known]],
            gt_boxes=[truth.boxes],
            gt_classes=[np.array([index[c] for c in truth.classes], int)],
            gt_ignore=None,
            max_detections=MAX_DETECTIONS,
        )
        # MONAI ranks equal scores in the order of the images. An order that follows from the content is as good as random, and the same
        # however the images were shuffled: a detector that gives every image the same scores gains nothing from theirs.
        self.matches.append((_content(prediction, truth), match))

    def result(self, chosen: Sequence[int] | None = None) -> dict[str, float]:
        """{"ap50", "ap"}: at IoU 0.5 and averaged over [0.5, 0.95]; 0 where nothing can be computed.

        chosen: indices of images in the order of adding, with repetitions as a bootstrap draws them; all by default.
        """
        matches = self.matches if chosen is None else [self.matches[i] for i in chosen]
        held = {index for _, match in matches for index, found in match.items() if len(found["gtIgnore"])}
        if not held:
            return {"ap50": 0.0, "ap": 0.0}
        ranked = [match for _, match in sorted(matches, key=lambda pair: pair[0])]
        kept = [{new: match[old] for new, old in enumerate(sorted(held)) if old in match} for match in ranked]
        values, _ = _metric([self.classes[old] for old in sorted(held)])(kept)
        ap50 = values[f"AP_IoU_0.50_MaxDet_{MAX_DETECTIONS}"]
        mean = values[f"mAP_IoU_{IOU_STEPS[0]:.2f}_{IOU_STEPS[1]:.2f}_{IOU_STEPS[2]:.2f}_MaxDet_{MAX_DETECTIONS}"]
        return {"ap50": float(ap50), "ap": float(mean)}


def _metric(classes: Sequence[int]) -> COCOMetric:
    # One threshold list serves both figures: AP at 0.5 and the mean over [0.5, 0.95].
    return COCOMetric(
        classes=[str(c) for c in classes],
        iou_list=[MATCH_IOU],
        iou_range=IOU_STEPS,
        max_detection=[MAX_DETECTIONS],
        per_class=False,
        verbose=False,
    )


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


def found(prediction: Boxes, truth: Boxes) -> np.ndarray[Any, np.dtype[np.bool_]]:
    """Which true boxes are matched by a detection of their class at IoU >= 0.5; (m,) bool."""
    if not len(truth.boxes) or not len(prediction.boxes):
        return np.zeros(len(truth.boxes), bool)
    overlap = np.asarray(box_iou(truth.boxes, prediction.boxes)) >= MATCH_IOU
    same: np.ndarray[Any, np.dtype[np.bool_]] = truth.classes[:, None] == prediction.classes[None, :]
    return np.asarray((overlap & same).any(1), bool)


def counts(predictions: Sequence[Boxes], truths: Sequence[Boxes], threshold: float) -> tuple[float, float]:
    """Missed true boxes and invented (unmatched) detections per image, among detections of the threshold."""
    missed = invented = 0
    for prediction, truth in zip(predictions, truths, strict=True):
        sure = confident(prediction, threshold)
        missed += int((~found(sure, truth)).sum())
        invented += int((~found(truth, sure)).sum())
    return missed / max(1, len(truths)), invented / max(1, len(truths))
