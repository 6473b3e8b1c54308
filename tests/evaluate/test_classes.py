"""Sensitivity and specificity by hand, at the clean operating point, and one class against the rest."""

import numpy as np
import pytest
from tests.evaluate.cases import class_cases

from medadv.datasets.labels import Prediction
from medadv.evaluate.classes import class_readings
from medadv.evaluate.readings import Case, ClassReadings, with_score


def values(row: ClassReadings) -> dict[str, tuple[float | None, float | None, float | None]]:
    return {each.name: (each.clean.value, each.attacked.value, each.difference.value) for each in row.readings}


def bare(case: Case) -> Case:
    """Without probabilities."""
    return Case(case.truth, Prediction(case.clean.answer), Prediction(case.attacked.answer), case.group)


def two(positive: list[float]) -> list[list[float]]:
    return [[1 - p, p] for p in positive]


def test_attacked_answers_meet_the_clean_operating_point() -> None:
    """Clean answers part at 0.3, below one half; under attack one ill falls below it, and one healthy rises above."""
    cases = class_cases([0, 0, 0, 1, 1], two([0.05, 0.1, 0.2, 0.4, 0.9]), two([0.05, 0.35, 0.2, 0.25, 0.45]))
    (row,) = class_readings(cases, head="softmax", classes=2, names=["no", "referable"]).classes
    assert (row.name, row.held, row.threshold) == ("referable", 2, pytest.approx(0.3))
    assert values(row) == {"sensitivity": (1, 0.5, -0.5), "specificity": (1, pytest.approx(2 / 3), pytest.approx(-1 / 3))}
    assert [each.over for each in row.readings] == [2, 3]
    (at_half,) = class_readings(cases, head="softmax", classes=2, threshold=0.5).classes
    assert values(at_half)["sensitivity"] == (0.5, 0, -0.5)


def test_what_is_stored_of_two_classes_is_enough() -> None:
    cases = class_cases([0, 1, 1], two([0.2, 0.8, 0.7]), two([0.6, 0.3, 0.9]))
    scores = [(0.8, 0.4), (0.8, 0.3), (0.7, 0.9)]
    stored = [
        Case(c.truth, with_score(c.clean.answer, c.truth, before), with_score(c.attacked.answer, c.truth, after), c.group)
        for c, (before, after) in zip(cases, scores, strict=True)
    ]
    assert class_readings(stored, head="softmax", classes=2) == class_readings(cases, head="softmax", classes=2)


def test_without_probabilities_the_answers_count() -> None:
    cases = class_cases([0, 0, 1, 1], two([0.2, 0.6, 0.4, 0.9]), two([0.9, 0.6, 0.4, 0.1]))
    (row,) = class_readings([bare(case) for case in cases], head="softmax", classes=2).classes
    assert row.threshold is None
    assert values(row) == {"sensitivity": (0.5, 0, -0.5), "specificity": (0.5, 0, -0.5)}


def test_several_classes_each_against_the_rest() -> None:
    clean, attacked, truths = np.eye(3)[[0, 1, 2, 2]], np.eye(3)[[1, 1, 1, 2]], [0, 1, 2, 1]
    report = class_readings(class_cases(truths, clean, attacked), head="softmax", classes=3)
    zero, one, two_ = (values(row) for row in report.classes)
    assert zero == {"sensitivity": (1, 0, -1), "specificity": (1, 1, 0)}
    assert one == {"sensitivity": (0.5, 0.5, 0), "specificity": (1, 0, -1)}
    assert two_ == {"sensitivity": (1, 0, -1), "specificity": (pytest.approx(2 / 3), pytest.approx(2 / 3), 0)}
    assert all(row.threshold is None for row in report.classes)


def test_each_label_of_a_sigmoid_head_has_its_own_point() -> None:
    truths = [[1, 0], [0, 0], [1, 1], [0, 1]]
    clean = [[0.3, 0.6], [0.1, 0.7], [0.4, 0.9], [0.2, 0.8]]
    attacked = [[0.2, 0.6], [0.1, 0.8], [0.4, 0.9], [0.3, 0.7]]
    first, second = class_readings(class_cases(truths, clean, attacked, "sigmoid"), head="sigmoid", classes=2).classes
    assert (first.threshold, second.threshold) == (pytest.approx(0.25), pytest.approx(0.75))
    assert values(first) == {"sensitivity": (1, 0.5, -0.5), "specificity": (1, 0.5, -0.5)}
    assert values(second) == {"sensitivity": (1, 0.5, -0.5), "specificity": (1, 0.5, -0.5)}


def test_labels_without_probabilities() -> None:
    cases = class_cases([[1, 0], [0, 1]], [[0.9, 0.1], [0.1, 0.9]], [[0.9, 0.1], [0.1, 0.2]], "sigmoid")
    first, second = class_readings([bare(case) for case in cases], head="sigmoid", classes=2).classes
    assert values(first) == {"sensitivity": (1, 1, 0), "specificity": (1, 1, 0)}
    assert values(second) == {"sensitivity": (1, 0, -1), "specificity": (1, 1, 0)}


def test_a_class_that_nobody_has() -> None:
    (row,) = class_readings(class_cases([0, 0], two([0.1, 0.2]), two([0.1, 0.9])), head="softmax", classes=2).classes
    assert values(row) == {"sensitivity": (None, None, None), "specificity": (1, 0.5, -0.5)}


def test_a_class_of_one_group_has_no_interval() -> None:
    """One patient alone is ill: however often it is drawn, its sensitivity is the same, and of other patients nothing is known."""
    cases = class_cases([1, 1, 0, 0, 0], two([0.9, 0.8, 0.1, 0.2, 0.3]), two([0.9, 0.1, 0.1, 0.9, 0.3]))
    one = [Case(c.truth, c.clean, c.attacked, "patient" if int(c.truth) else c.group) for c in cases]
    (row,) = class_readings(one, head="softmax", classes=2).classes
    ill, healthy = row.reading("sensitivity"), row.reading("specificity")
    assert [(each.value, each.low, each.high) for each in (ill.clean, ill.attacked, ill.difference)] == [
        (1, None, None),
        (0.5, None, None),
        (-0.5, None, None),
    ]
    assert healthy.attacked.low == 0
    assert healthy.attacked.high == 1
    (apart,) = class_readings(cases, head="softmax", classes=2).classes
    assert apart.reading("sensitivity").attacked.low == 0
    assert apart.reading("sensitivity").attacked.high == 1
