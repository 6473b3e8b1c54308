"""Held-out metrics of the victims, each beside what an answer that ignores the image would score."""

from collections.abc import Sequence

import numpy as np
import torch
from monai.apps.detection.metrics.coco import COCOMetric
from monai.apps.detection.metrics.matching import matching_batch
from monai.data.box_utils import box_iou
from monai.metrics import ROCAUCMetric
from torch import Tensor

Detection = dict[str, Tensor]


def auc(scores: Tensor, labels: Tensor) -> float:
    """Area under the ROC curve.  scores: (n,), higher for the positive class.  labels: (n,), 0 or 1."""
    metric = ROCAUCMetric()
    metric(scores, labels)
    return float(metric.aggregate())


def dice(predicted: Tensor, truth: Tensor) -> Tensor:
    """Dice per image.  predicted, truth: (n, *spatial) of 0 and 1; 1 where both are empty."""
    axes = tuple(range(1, truth.ndim))
    overlap = (predicted * truth).sum(axes).double()
    total = (predicted.sum(axes) + truth.sum(axes)).double()
    return torch.where(total > 0, 2 * overlap / total.clamp(min=1), 1.0)


def ap50(detections: Sequence[Detection], truth: Sequence[Tensor]) -> float:
    """COCO average precision at IoU 0.5, one class.

    Equal scores are ranked in random order: a stable sort can flatter a detector that gives every image the same scores.
    """
    order = np.random.default_rng(0).permutation(len(truth))
    metric = COCOMetric(classes=["object"], iou_list=[0.5], iou_range=(0.5, 0.95, 0.05), max_detection=[100], verbose=False)
    matches = matching_batch(
        iou_fn=box_iou,
        iou_thresholds=metric.iou_thresholds,
        pred_boxes=[detections[i]["boxes"].numpy() for i in order],
        pred_classes=[np.zeros(len(detections[i]["scores"]), np.int64) for i in order],
        pred_scores=[detections[i]["scores"].numpy() for i in order],
        gt_boxes=[truth[i].numpy() for i in order],
        gt_classes=[np.zeros(len(truth[i]), np.int64) for i in order],
    )
    return float(metric(matches)[0]["object_AP_IoU_0.50_MaxDet_100"])


def constant_box(boxes: Sequence[Tensor]) -> Tensor:
    """The training box that overlaps most training boxes at IoU 0.5: the best single answer for every image, (1, 4)."""
    pool = torch.cat(list(boxes))
    return pool[(box_iou(pool, pool) >= 0.5).sum(1).argmax()][None]
