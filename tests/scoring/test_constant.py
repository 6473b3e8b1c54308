"""Answers that ignore the image, against counts by hand, and against a segmenter's own score of the same mask."""

import numpy as np
import pytest
from torch import nn

from medadv.datasets.labels import Boxes, Prediction
from medadv.scoring.attackable import answer_to_lose, dice_to_lose
from medadv.scoring.constant import constant_accuracy, constant_boxes, constant_dice
from medadv.victims.tasks.segmentation import Segmenter


def test_the_commonest_class_and_labels() -> None:
    assert constant_accuracy(np.array([2, 0, 2, 1, 2])) == 0.6
    # Label by label: three quarters are 0, half is 1, all are 1.
    assert constant_accuracy(np.array([[0, 0, 1], [0, 1, 1], [1, 1, 1], [0, 0, 1]])) == pytest.approx((0.75 + 0.5 + 1) / 3)


def test_one_box_a_class_that_matches_most() -> None:
    near, far = [10, 10, 30, 30], [60, 60, 90, 90]
    truths = [Boxes.of([near, far], [1, 2]), Boxes.of([[11, 10, 31, 30]], [1]), Boxes.of([far], [1]), Boxes.of([], [])]
    answer = constant_boxes(truths)
    assert answer.classes.tolist() == [1, 2]
    assert answer.boxes.tolist() == [near, far]
    assert answer.scores is not None
    assert answer.scores.tolist() == [1, 1]
    deep = constant_boxes([Boxes.of([[0, 0, 0, 4, 4, 4]], [1], dims=3)])
    assert deep.boxes.tolist() == [[0, 0, 0, 4, 4, 4]]


@pytest.mark.parametrize("planes", [False, True])
def test_the_commonest_mask_scores_as_a_segmenter_would(planes: bool) -> None:
    random = np.random.default_rng(0)
    masks = random.choice([0, 1, 255] if planes else [0, 1, 2, 255], (5, 2, 6, 7) if planes else (5, 6, 7), p=None).astype(np.uint8)
    masks[0][masks[0] != 255] = 0
    known = [(masks == value).sum(0) for value in ((0, 1) if planes else (0, 1, 2))]
    common = np.stack(known).argmax(0).astype(np.uint8)
    judge = Segmenter(nn.Identity(), "sigmoid" if planes else "softmax", 2 if planes else 3, 2)
    expected = [judge.score(Prediction(common), truth) for truth in masks]
    assert constant_dice(masks, planes) == pytest.approx(np.mean(expected))
    assert 0 < np.mean(expected) < 1


def test_empty_masks_are_answered_by_an_empty_mask() -> None:
    masks = np.zeros((3, 4, 4), np.uint8)
    assert constant_dice(masks, planes=False) == 1
    masks[0, :2] = 1
    assert constant_dice(masks, planes=False) == pytest.approx(2 / 3)


def test_what_an_attack_could_destroy() -> None:
    assert answer_to_lose(np.asarray(1), np.asarray(1), 0.5)
    assert not answer_to_lose(np.asarray(1), np.asarray(0), 0.5)
    assert answer_to_lose(np.array([1, 0]), np.array([0, 0]), 0.5)
    assert dice_to_lose(np.array([0.0, 0.0999, 0.1, 1.0])).tolist() == [False, False, True, True]
    truth, found, unsure = Boxes.of([[0, 0, 9, 9]], [1]), Boxes.of([[0, 0, 9, 9]], [1], [0.9]), Boxes.of([[0, 0, 9, 9]], [1], [0.4])
    nothing = Boxes.of([], [])
    assert [answer_to_lose(a, truth, 0.5) for a in (found, unsure)] == [True, False]
    assert [answer_to_lose(a, nothing, 0.5) for a in (found, unsure)] == [False, True]
