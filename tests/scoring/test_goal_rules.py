"""Each goal's rule on answers whose outcome is plain to see: masks of a few voxels, boxes of round numbers, classes."""

import numpy as np
import pytest

from medadv.common.record import plain
from medadv.datasets.labels import Boxes
from medadv.scoring.goals import (
    Masks,
    boxes_attackable,
    boxes_reached,
    boxes_rule,
    class_attackable,
    class_reached,
    class_rule,
)
from medadv.spec.goal import ClassGoal, Goal

ONE, TWO = ClassGoal(name="one", index=1), ClassGoal(name="two", index=2)


def mask(*runs: tuple[int, int], size: int = 100) -> np.ndarray:
    """An image of 10 x 10 voxels: (count, class) one after the other, the rest background."""
    values = [value for count, value in runs for _ in range(count)]
    return np.array(values + [0] * (size - len(values)), np.uint8).reshape(10, -1)


def as_planes(index: np.ndarray) -> np.ndarray:
    """The same with a mask for each of two classes; class 3 is both at once."""
    planes = np.stack([np.isin(index, (1, 3)), np.isin(index, (2, 3))]).astype(np.uint8)
    planes[:, index == 255] = 255
    return planes


TRUTH = mask((40, 1), (10, 255))
MASKS: list[tuple[str, Goal, np.ndarray, np.ndarray, np.ndarray, bool, bool]] = [
    # what, goal, truth, clean, adversarial, attackable, reached
    ("all of it gone", "vanish", TRUTH, mask((30, 1)), mask(), True, True),
    ("a tenth is left", "vanish", TRUTH, mask((30, 1)), mask((3, 1)), True, True),
    ("a little more than a tenth is left", "vanish", TRUTH, mask((30, 1)), mask((4, 1)), True, False),
    ("another class is not gone", "vanish", TRUTH, mask((30, 1)), mask((30, 2)), True, False),
    ("nothing was there", "vanish", TRUTH, mask(), mask(), False, False),
    ("what is left is ignored by the truth", "vanish", TRUTH, mask((40, 1)), mask((40, 0), (10, 1)), True, True),
    ("only what the truth ignores was there", "vanish", TRUTH, mask((40, 0), (10, 1)), mask(), False, False),
    ("invented before, in a truth without foreground", "vanish", mask(), mask((9, 1)), mask(), True, True),
    ("one hundredth grows", "fabricate", TRUTH, mask((40, 1)), mask((40, 1), (10, 0), (1, 1)), True, True),
    ("the same invented as before", "fabricate", TRUTH, mask((50, 0), (5, 1)), mask((50, 0), (5, 2)), True, False),
    ("one grows beside what was invented", "fabricate", TRUTH, mask((50, 0), (5, 1)), mask((50, 0), (6, 1)), True, True),
    ("on the truth it is not invented", "fabricate", TRUTH, mask(), mask((40, 2)), True, False),
    ("where the truth knows nothing it is not invented", "fabricate", TRUTH, mask(), mask((50, 1)), True, False),
    ("no truth", "fabricate", mask(), mask(), mask((1, 2)), True, True),
    ("no room is left", "fabricate", mask((100, 1)), mask(), mask((100, 2)), False, False),
    ("all is answered already", "fabricate", TRUTH, mask((100, 1)), mask((100, 2)), False, False),
    ("all becomes two", TWO, TRUTH, mask((40, 1)), mask((40, 2)), True, True),
    ("fewer, but all two", TWO, TRUTH, mask((40, 1)), mask((5, 2)), True, True),
    ("so few that it rather vanished", TWO, TRUTH, mask((40, 1)), mask((4, 2)), True, False),
    ("all but one", TWO, TRUTH, mask((40, 1)), mask((39, 2), (1, 1)), True, False),
    ("nothing is not two", TWO, TRUTH, mask((40, 1)), mask(), True, False),
    ("elsewhere one is answered", TWO, TRUTH, mask((40, 1)), mask((40, 2), (10, 0), (1, 1)), True, False),
    ("where the truth knows nothing one may be answered", TWO, TRUTH, mask((40, 1)), mask((40, 2), (10, 1)), True, True),
    ("two already", TWO, TRUTH, mask((9, 2)), mask((40, 2)), False, False),
    ("two by the truth", TWO, mask((40, 2)), mask((40, 1)), mask((40, 2)), False, False),
    ("a truth of one and two", TWO, mask((20, 1), (20, 2)), mask((20, 1), (20, 2)), mask((40, 2)), True, True),
    ("nothing answered before", TWO, TRUTH, mask(), mask((1, 2)), True, True),
    ("a truth without foreground has nothing to become two", TWO, mask(), mask(), mask((9, 2)), False, False),
]


@pytest.mark.parametrize("planes", [False, True])
@pytest.mark.parametrize(("what", "goal", "truth", "clean", "adversarial", "able", "reached"), MASKS, ids=[row[0] for row in MASKS])
def test_masks(
    planes: bool, what: str, goal: Goal, truth: np.ndarray, clean: np.ndarray, adversarial: np.ndarray, able: bool, reached: bool
) -> None:
    judge, form = Masks(planes), as_planes if planes else np.asarray
    assert judge.attackable(goal, form(clean), form(truth)) == able
    assert judge.reached(goal, form(clean), form(adversarial), form(truth)) == reached


def test_a_voxel_of_two_classes_is_of_neither_alone() -> None:
    judge, truth = Masks(True), as_planes(TRUTH)
    assert not judge.reached(TWO, truth, as_planes(mask((39, 2), (1, 3))), truth)
    assert judge.reached("fabricate", truth, as_planes(mask((50, 0), (1, 3))), truth)


@pytest.mark.parametrize(
    ("truth", "clean", "adversarial", "able", "reached"),
    [(0, 0, 1, True, True), (0, 0, 2, True, False), (0, 2, 1, True, True), (0, 1, 1, False, False), (1, 0, 1, False, False)],
)
def test_classes(truth: int, clean: int, adversarial: int, able: bool, reached: bool) -> None:
    """Who answers the class when clean is there already, and whom it would make right is not attacked by it."""
    answers = [np.asarray(value) for value in (clean, adversarial, truth)]
    assert class_attackable(ONE, answers[0], answers[2]) == able
    assert class_reached(ONE, *answers) == reached


HERE, THERE, APART = [0, 0, 10, 10], [20, 20, 30, 30], [60, 60, 70, 70]


def boxes(*found: tuple[list[float], int]) -> Boxes:
    return Boxes.of([box for box, _ in found], [value for _, value in found])


PAIR = boxes((HERE, 1), (THERE, 1))
BOXES: list[tuple[str, Goal, Boxes, Boxes, Boxes, bool, bool]] = [
    ("all gone", "vanish", PAIR, PAIR, boxes(), True, True),
    ("one is left", "vanish", PAIR, PAIR, boxes((THERE, 1)), True, False),
    ("one is invented instead", "vanish", PAIR, PAIR, boxes((APART, 1)), True, False),
    ("of another class it is invented", "vanish", PAIR, PAIR, boxes((HERE, 2)), True, False),
    ("none was found before", "vanish", PAIR, boxes((APART, 1)), boxes(), False, False),
    ("no truth to vanish", "vanish", boxes(), boxes((APART, 1)), boxes(), False, False),
    ("one more far away", "fabricate", PAIR, PAIR, boxes((HERE, 1), (APART, 2)), True, True),
    ("it was there before", "fabricate", PAIR, boxes((APART, 1)), boxes((APART, 2)), True, False),
    ("two where one was", "fabricate", PAIR, boxes((APART, 1)), boxes((APART, 1), ([80, 80, 90, 90], 1)), True, True),
    # 20 of 180 voxels are shared, and 10 of 190.
    ("it still meets a true one", "fabricate", PAIR, PAIR, boxes(([8, 0, 18, 10], 1)), True, False),
    ("it hardly meets a true one", "fabricate", PAIR, PAIR, boxes(([9, 0, 19, 10], 1)), True, True),
    ("no truth", "fabricate", boxes(), boxes(), boxes((HERE, 1)), True, True),
    ("all become two", TWO, PAIR, PAIR, boxes((HERE, 2), (THERE, 2)), True, True),
    ("moved a little, and one more", TWO, PAIR, PAIR, boxes(([1, 1, 11, 11], 2), (THERE, 2), (APART, 1)), True, True),
    ("one of both", TWO, PAIR, PAIR, boxes((HERE, 2)), True, False),
    ("one beside", TWO, PAIR, PAIR, boxes((HERE, 2), (THERE, 2), (THERE, 1)), True, False),
    ("two already", TWO, PAIR, boxes((HERE, 2), (THERE, 2)), boxes((HERE, 2), (THERE, 2)), False, False),
    ("two by the truth", TWO, boxes((HERE, 2)), boxes(), boxes((HERE, 2)), False, False),
    ("a truth of one and two", TWO, boxes((HERE, 1), (THERE, 2)), PAIR, boxes((HERE, 2), (THERE, 2)), True, True),
    ("no truth to become two", TWO, boxes(), boxes(), boxes((HERE, 2)), False, False),
]


@pytest.mark.parametrize(("what", "goal", "truth", "clean", "adversarial", "able", "reached"), BOXES, ids=[row[0] for row in BOXES])
def test_boxes(what: str, goal: Goal, truth: Boxes, clean: Boxes, adversarial: Boxes, able: bool, reached: bool) -> None:
    assert boxes_attackable(goal, clean, truth) == able
    assert boxes_reached(goal, clean, adversarial, truth) == reached


def test_what_is_stored_says_what_counts() -> None:
    assert plain(class_rule(TWO)) == {"metric": "top1", "condition": "prediction_adversarial == class", "index": 2}
    assert {key: plain(Masks(False).rule("vanish"))[key] for key in ("metric", "share")} == {"metric": "foreground", "share": 0.1}
    assert plain(Masks(False).rule("fabricate"))["share"] == 0.01
    assert (plain(Masks(True).rule(TWO))["index"], plain(boxes_rule(TWO, 0.5))["iou"]) == (2, 0.5)
    assert plain(boxes_rule("fabricate", 0.4))["iou"] == 0.1
    assert plain(boxes_rule("vanish", 0.4))["score_threshold"] == 0.4
