"""FROC of cases by hand, clean and attacked, per class."""

import numpy as np
import pytest
from tests.evaluate.cases import box_case

from medadv.datasets.labels import Boxes
from medadv.evaluate.clinical import clinical_readings
from medadv.evaluate.found_boxes import FROC, box_readings
from medadv.evaluate.readings import Case
from medadv.scoring.boxes import counts

A, B, FAR = [0, 0, 10, 10], [50, 50, 60, 60], [200, 200, 210, 210]
NONE = Boxes.of([], [], [])


def cases() -> list[Case]:
    """Clean: both boxes of the first image at 0.9 and 0.6. Attacked: one is gone, and a false one of 0.8 has come to each image."""
    return [
        box_case(Boxes.of([A, B], [1, 1]), Boxes.of([A, B], [1, 1], [0.9, 0.6]), Boxes.of([A, FAR], [1, 1], [0.7, 0.8]), "p"),
        box_case(Boxes.of([A], [2]), Boxes.of([A], [2], [0.9]), Boxes.of([A, FAR], [2, 1], [0.9, 0.8]), "q"),
    ]


def test_by_hand() -> None:
    first, second = box_readings(cases(), score_threshold=0.65, names=["polyp", "other"]).classes
    assert ((first.name, first.held), (second.name, second.held)) == (("polyp", 2), ("other", 1))
    read = {each.name: (each.clean.value, each.attacked.value) for each in first.readings}
    assert read["froc"] == (1, pytest.approx(0.5 * 4 / 7))
    assert [read[name] for name in FROC] == [(1, 0), (1, 0), (1, 0), (1, 0.5), (1, 0.5), (1, 0.5), (1, 0.5)]
    assert read["sensitivity"] == (0.5, 0.5)
    assert read["false_positives_per_image"] == (0, 1)
    assert first.reading("false_positives_per_image").over == 2
    assert {each.name: each.difference.value for each in second.readings} == {each.name: 0 for each in second.readings}


def test_false_and_missed_are_those_of_the_other_tables() -> None:
    """Of one class, sensitivity and false alarms at the threshold follow from `scoring.boxes.counts`."""
    generator = np.random.default_rng(0)

    def drawn(count: int, scored: bool) -> Boxes:
        corner = generator.integers(0, 12, (count, 2))
        return Boxes.of(np.concatenate([corner, corner + 8], 1), [1] * count, generator.random(count) if scored else None)

    rows = [(drawn(3, False), drawn(5, True)) for _ in range(20)]
    (found,) = box_readings([box_case(t, a, NONE, str(k)) for k, (t, a) in enumerate(rows)], score_threshold=0.4).classes
    missed, invented = counts([a for _, a in rows], [t for t, _ in rows], 0.4)
    assert found.reading("sensitivity").clean.value == pytest.approx(1 - missed / 3)
    assert found.reading("false_positives_per_image").clean.value == pytest.approx(invented)
    assert found.reading("froc").attacked.value == 0


def test_overlap_is_a_parameter_and_tasks_find_their_way() -> None:
    near = [2, 0, 12, 10]
    case = box_case(Boxes.of([A], [1]), Boxes.of([near], [1], [0.9]), NONE, "p")
    assert box_readings([case], score_threshold=0.5).classes[0].reading("sensitivity").clean.value == 1
    assert box_readings([case], score_threshold=0.5, iou=0.7).classes[0].reading("sensitivity").clean.value == 0
    report = clinical_readings("detection", iter([case]), head="softmax", classes=2, score_threshold=0.5)
    assert report == box_readings([case], score_threshold=0.5)


def test_without_a_true_box_there_is_no_class() -> None:
    assert box_readings([box_case(Boxes.of([], []), Boxes.of([A], [1], [0.9]), NONE, "p")], score_threshold=0.5).classes == []
