"""What does a black box that answers boxes give away? The scores of those that match a true one."""

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from medadv.datasets.labels import Boxes, Prediction
from medadv.scoring.boxes import MATCH_IOU
from medadv.scoring.coco import overlaps
from medadv.spec.goal import Goal
from medadv.victims.tasks.aims import towards


def lost(answer: Boxes, truth: Boxes) -> float:
    """How much of the truth is not answered any more, in [0, 1]: 1 less the mean, over the true boxes, of the highest score of a detection
    of its class at IoU >= 0.5. On an image without boxes: the score of the surest detection.
    """
    assert answer.scores is not None
    if not len(truth.boxes):
        return float(answer.scores.max(initial=0.0))
    if not len(answer.boxes):
        return 1.0
    fits = (overlaps(truth.boxes, answer.boxes) >= MATCH_IOU) & (truth.classes[:, None] == answer.classes[None, :])
    return float(1 - np.where(fits, answer.scores[None, :], 0.0).max(1).mean())


def standing_of(predictions: Sequence[Prediction], truths: Sequence[Boxes], goal: Goal, like: Tensor) -> tuple[Tensor, Tensor]:
    """How near each answer is to the goal, of which 1 is the most that there is, and what tells equals apart, (n,) each, as `like`.

    untruth: what is `lost` of the truth.  class, vanish: what is not lost of the goal's boxes, as `box_aims` gives them for truths.
    fabricate, whose truths are gone: the sum of all scores.
    """
    answers = [prediction.answer for prediction in predictions if isinstance(prediction.answer, Boxes)]
    if goal == "fabricate":
        sums = like.new_tensor([0.0 if answer.scores is None else float(answer.scores.sum()) for answer in answers])
        return torch.zeros_like(sums), sums
    shares = like.new_tensor([lost(answer, truth) for answer, truth in zip(answers, truths, strict=True)])
    return 1 - shares if towards(goal) else shares, torch.zeros_like(shares)


def as_boxes(boxes: Tensor, classes: Tensor) -> Boxes:
    """From tensors on any device.  boxes: (m, 2 * dims), x first.  classes: (m,)."""
    return Boxes.of(boxes.cpu(), classes.cpu(), dims=boxes.shape[1] // 2)
