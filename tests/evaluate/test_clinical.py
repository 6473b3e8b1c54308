"""What every task's figures have in common: each class has a name, from the corpus or its number."""

import numpy as np
import pytest
from tests.evaluate.cases import box_case, class_cases, mask_case

from medadv.datasets.labels import Boxes
from medadv.evaluate.clinical import clinical_readings
from medadv.evaluate.readings import Case

MASK = np.array([[0, 1], [2, 2]])
LABELS = np.array([[[1, 0]], [[0, 1]], [[1, 1]]])
BOXES = Boxes.of([[0, 0, 10, 10]] * 2, [1, 3], [0.9, 0.8])


@pytest.mark.parametrize("names", [None, ["first"], ["first", "second", "third"]])
@pytest.mark.parametrize(
    ("task", "case", "head", "classes", "numbers", "first"),
    [
        ("segmentation", mask_case(MASK, MASK, MASK), "softmax", 3, [1, 2], 1),
        ("segmentation", mask_case(LABELS, LABELS, LABELS), "sigmoid", 3, [0, 1, 2], 0),
        ("classification", class_cases([1], np.eye(3)[[1]], np.eye(3)[[1]])[0], "softmax", 3, [0, 1, 2], 0),
        ("classification", class_cases([1], np.eye(2)[[1]], np.eye(2)[[1]])[0], "softmax", 2, [1], 0),
        ("detection", box_case(BOXES, BOXES, BOXES, "a"), "softmax", 4, [1, 3], 1),
    ],
)
def test_classes_without_a_name_are_told_by_their_number(
    task: str, case: Case, head: str, classes: int, numbers: list[int], first: int, names: list[str] | None
) -> None:
    """A corpus may name fewer classes than its victim has."""
    found = clinical_readings(task, [case], head=head, classes=classes, score_threshold=0.5, names=names).classes
    named = dict(enumerate(names or [], first))
    assert [each.name for each in found] == [named.get(number, f"class {number}") for number in numbers]
