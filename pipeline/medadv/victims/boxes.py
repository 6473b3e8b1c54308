"""Average precision and matching of boxes, by MONAI's COCO metric."""

from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np
from monai.apps.detection.metrics.coco import COCOMetric
from monai.apps.detection.metrics.matching import matching_batch
from monai.data.box_utils import box_iou

from medadv.answers import Boxes

IOU_STEPS = (0.5, 0.95, 0.05)
MAX_DETECTIONS = 100
MATCH_IOU = 0.5


class AveragePrecision:
    """COCO average precision over images added one by one; keeps matches, not images."""

    def __init__(self, classes: Iterable[int]) -> None:
        """classes: every 1-based class that counts, also where no image holds one."""
        self.classes = sorted(set(classes))
        # One threshold list serves both figures: AP at 0.5 and the mean over [0.5, 0.95].
        self.metric = COCOMetric(
            classes=[str(c) for c in self.classes],
            iou_list=[MATCH_IOU],
            iou_range=IOU_STEPS,
            max_detection=[MAX_DETECTIONS],
            per_class=False,
            verbose=False,
        )
        self.matches: list[Any] = []

    def add(self, prediction: Boxes, truth: Boxes) -> None:
        """One image. prediction.scores must be given."""
        assert prediction.scores is not None
        index = {c: i for i, c in enumerate(self.classes)}
        known = np.array([c in index for c in prediction.classes], bool)
        self.matches += matching_batch(
            iou_fn=box_iou,
            iou_thresholds=self.metric.iou_thresholds,
            pred_boxes=[prediction.boxes[known]],
            pred_classes=[np.array([index[c] for c in prediction.classes[known]], int)],
            pred_scores=[prediction.scores[known]],
            gt_boxes=[truth.boxes],
            gt_classes=[np.array([index[c] for c in truth.classes], int)],
            gt_ignore=None,
            max_detections=MAX_DETECTIONS,
        )

    def result(self) -> dict[str, float]:
        """{"ap50", "ap"}: at IoU 0.5 and averaged over [0.5, 0.95]; 0 where nothing can be computed."""
        if not self.matches or not self.classes:
            return {"ap50": 0.0, "ap": 0.0}
        values, _ = self.metric(self.matches)
        ap50 = values[f"AP_IoU_0.50_MaxDet_{MAX_DETECTIONS}"]
        mean = values[f"mAP_IoU_{IOU_STEPS[0]:.2f}_{IOU_STEPS[1]:.2f}_{IOU_STEPS[2]:.2f}_MaxDet_{MAX_DETECTIONS}"]
        # COCO marks a class without truths with -1 or NaN.
        return {"ap50": max(0.0, float(np.nan_to_num(ap50))), "ap": max(0.0, float(np.nan_to_num(mean)))}


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
