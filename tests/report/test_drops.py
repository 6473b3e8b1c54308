"""Drops by hand: whole, per class, per part, in groups, with the intervals of scoring/intervals."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from medadv.datasets.labels import Boxes
from medadv.report.by_class import MaskDice, class_drops, class_name, held, held_in_masks
from medadv.report.columns import AttackColumns, Columns
from medadv.report.estimates import metrics, success
from medadv.scoring.intervals import bootstrap, resamples_for

GROUPS = ["a", "a", "b", "b", "c", "d"]


def columns(task: str, truths: list[Any], clean: list[Any], adversarial: list[Any], scores: Any = None, groups: Any = None) -> Columns:
    """One attack, `a`.  scores: clean and adversarial, of each sample."""
    count = len(scores[0] if scores else truths)
    before, after = (np.asarray(v, np.float64) for v in (scores or ([1.0] * count, [0.0] * count)))
    fooled = (after < before).astype(np.float64)
    attack = AttackColumns(np.ones(count, bool), fooled, np.ones(count), np.ones(count), before, after, clean, adversarial)
    ids = [f"s{number}" for number in range(count)]
    return Columns(task, ids, list(groups or GROUPS[:count]), [(Path("x"), 0)] * count, truths, {"a": attack})


def classes() -> Columns:
    truths, clean, adversarial = [0, 0, 1, 1, 2, 2], [0, 1, 1, 1, 2, 2], [1, 1, 1, 0, 0, 0]
    return columns("classification", *([np.asarray(v, np.int64) for v in each] for each in (truths, clean, adversarial)))


def test_classes_drop_by_their_own_samples() -> None:
    """Of class 0 one of two is right, then none; of class 1 both, then one; of class 2 both, then none."""
    found = classes()
    rows = held(found, ["healthy", "mild", "severe"])
    told = {part.name: compared for part, _, compared in class_drops(found, found.attacks["a"], rows, MaskDice({}))}
    values = {name: (each.clean.value, each.adversarial.value, each.drop.value) for name, each in told.items()}
    assert values == {"healthy": (0.5, 0, 0.5), "mild": (1, 0.5, 0.5), "severe": (1, 0, 1)}
    # Both samples of class 0 are of one patient, and so are those of class 1.
    assert np.isnan([told["healthy"].drop.low, told["mild"].drop.low]).all()
    assert (told["severe"].drop.low, told["severe"].drop.high) == (1, 1)


def test_intervals_are_those_of_scoring() -> None:
    found = classes()
    attack = found.attacks["a"]
    truths = np.stack(found.truths)
    right = [(np.stack(each) == truths).astype(float) for each in (attack.clean, attack.adversarial)]
    compared = metrics(found, attack)["accuracy"]
    for interval, values in ((compared.clean, right[0]), (compared.adversarial, right[1]), (compared.drop, right[0] - right[1])):
        known = bootstrap(lambda chosen, values=values: float(values[chosen].mean()), 6, resamples_for("classification", 6), GROUPS)
        assert (interval.value, interval.low, interval.high) == pytest.approx((known.value, known.low, known.high), abs=1e-12)
    part = np.array([0, 2, 4])
    known = bootstrap(lambda chosen: float(right[0][part][chosen].mean()), 3, resamples_for("classification", 3), ["a", "b", "c"])
    of_part = metrics(found, attack, part)["accuracy"].clean
    assert (of_part.low, of_part.high) == pytest.approx((known.low, known.high))


def test_the_drop_is_of_the_same_samples() -> None:
    """Every sample drops by a half: clean and adversarial vary, the drop does not."""
    scores = np.linspace(0.5, 1, 6)
    found = columns("segmentation", [], [], [], (scores, scores - 0.5))
    dice = metrics(found, found.attacks["a"])["dice"]
    assert dice.clean.low < dice.clean.high
    assert (dice.drop.low, dice.drop.value, dice.drop.high) == pytest.approx((0.5, 0.5, 0.5))


def test_of_one_group_there_is_no_interval() -> None:
    found = columns("segmentation", [], [], [], ([0.9, 0.8], [0.1, 0.2]), ["a", "a"])
    dice = metrics(found, found.attacks["a"])["dice"]
    assert dice.drop.value == pytest.approx(0.7)
    assert np.isnan([dice.drop.low, dice.drop.high, dice.clean.low]).all()
    assert np.isnan(success(found, found.attacks["a"]).low)


def test_labels_one_by_one() -> None:
    """The second label is on in one sample of three, right in all, then wrong in two."""
    truths, clean, adversarial = [[1, 0], [1, 1], [0, 0]], [[1, 0], [1, 1], [0, 0]], [[1, 1], [1, 0], [0, 0]]
    given = ([np.asarray(v, np.uint8) for v in each] for each in (truths, clean, adversarial))
    found = columns("classification", *given, groups=["a", "b", "c"])
    rows = held(found, ["cyst", "scar"])
    assert [(part.name, len(part.rows)) for part in rows] == [("cyst", 2), ("scar", 1)]
    told = {part.name: compared.drop.value for part, _, compared in class_drops(found, found.attacks["a"], rows, MaskDice({}))}
    assert told == {"cyst": 0, "scar": pytest.approx(2 / 3)}


def test_boxes_of_each_class() -> None:
    """The polyp is found in both images, then in none; the tool stays found."""
    polyp, tool = [0, 0, 10, 10], [20, 20, 40, 40]
    truths = [Boxes.of([polyp, tool], [1, 2]), Boxes.of([polyp], [1])]
    clean = [Boxes.of([polyp, tool], [1, 2], [0.9, 0.9]), Boxes.of([polyp], [1], [0.8])]
    adversarial = [Boxes.of([tool], [2], [0.9]), Boxes.of([[50, 50, 60, 60]], [1], [0.9])]
    found = columns("detection", truths, clean, adversarial, groups=["a", "b"])
    rows = held(found, ["polyp", "tool"])
    assert [(part.name, len(part.rows), part.boxes) for part in rows] == [("polyp", 2, 2), ("tool", 1, 1)]
    told = {part.name: (c.clean.value, c.adversarial.value) for part, _, c in class_drops(found, found.attacks["a"], rows, MaskDice({}))}
    assert told == {"polyp": (pytest.approx(1), 0), "tool": (pytest.approx(1), pytest.approx(1))}


def test_organs_of_masks() -> None:
    """The liver is in samples 0 and 2, the spleen in 1 alone."""
    found = columns("segmentation", [], [], [], ([0.9] * 3, [0.1] * 3))
    dice = MaskDice({1: [(0, 0.9, 0.5), (2, 0.7, 0.1)], 2: [(1, 0.8, 0.8)]})
    rows = held_in_masks(dice, ["liver", "spleen"])
    told = {part.name: (metric, c.clean.value, c.drop.value) for part, metric, c in class_drops(found, found.attacks["a"], rows, dice)}
    assert told == {"liver": ("Dice", pytest.approx(0.8), pytest.approx(0.5)), "spleen": ("Dice", 0.8, 0)}


@pytest.mark.parametrize(
    ("index", "names", "first", "classes", "name"),
    [
        (1, ["no", "yes"], 0, 2, "yes"),
        (1, ["liver"], 1, 1, "liver"),
        (1, None, 1, 1, "foreground"),
        (2, None, 1, 2, "class 2"),
        (5, ["a"], 0, 6, "class 5"),
    ],
)
def test_classes_have_names_where_there_are_any(index: int, names: list[str] | None, first: int, classes: int, name: str) -> None:
    assert class_name(index, names, first, classes) == name
