"""How far does each class drop? What of the samples holds it, and its own metric, clean and adversarial."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from medadv.datasets.labels import Array, Boxes
from medadv.report.columns import AttackColumns, Columns
from medadv.report.estimates import Compared, Statistic, compared
from medadv.scoring.boxes import AveragePrecision


@dataclass(frozen=True)
class Held:
    """A class and where it is.  rows: (n,) indices of the samples that hold it.  boxes: how many, of boxes."""

    value: int
    name: str
    rows: Array
    boxes: int | None = None


@dataclass(frozen=True, eq=False)
class MaskDice:
    """Dice of each class that a sample's truth holds, of the samples that were read again: class -> (sample, clean, adversarial)."""

    rows: dict[int, list[tuple[int, float, float]]]


def held(columns: Columns, names: Sequence[str] | None) -> list[Held]:
    """Every class of the truths, of classification and detection; masks are not held here."""
    truths = columns.truths
    if columns.task == "detection":
        boxes = [truth.classes for truth in truths if isinstance(truth, Boxes)]
        values = sorted({int(value) for each in boxes for value in each})
        found = []
        for value in values:
            count = np.array([(each == value).sum() for each in boxes])
            found.append(Held(value, class_name(value, names, 1, len(values)), np.flatnonzero(count), int(count.sum())))
        return found
    if columns.task == "segmentation" or not truths:
        return []
    stacked = np.stack([np.asarray(truth) for truth in truths])
    if stacked.ndim == 2:
        return [Held(k, class_name(k, names), np.flatnonzero(stacked[:, k])) for k in range(stacked.shape[1])]
    return [Held(int(value), class_name(int(value), names), np.flatnonzero(stacked == value)) for value in np.unique(stacked)]


def held_in_masks(dice: MaskDice, names: Sequence[str] | None) -> list[Held]:
    """The same of masks, among the samples that were read again."""
    values = sorted(dice.rows)
    return [
        Held(value, class_name(value, names, 1, len(values)), np.array([number for number, _, _ in dice.rows[value]])) for value in values
    ]


def class_drops(columns: Columns, attack: AttackColumns, classes: Sequence[Held], dice: MaskDice) -> Iterator[tuple[Held, str, Compared]]:
    """Each class, its metric and how far it drops; boxes count on all samples, since they can be invented on any."""
    if columns.task == "segmentation":
        for each in classes:
            values = np.full((2, len(columns.ids)), np.nan)
            for number, *pair in dice.rows[each.value]:
                values[:, number] = pair
            yield each, "Dice", compared(_mean_of(values[0]), _mean_of(values[1]), each.rows, columns)
        return
    if columns.task == "detection":
        for each in classes:
            before, after = (_ap_of(columns, answers, each.value) for answers in (attack.clean, attack.adversarial))
            yield each, "AP at IoU 0.5", compared(before, after, np.arange(len(columns.ids)), columns)
        return
    truths = np.stack([np.asarray(truth) for truth in columns.truths])
    labels = truths.ndim == 2
    clean, adversarial = (np.stack([np.asarray(answer) for answer in answers]) == truths for answers in (attack.clean, attack.adversarial))
    for each in classes:
        right = [(same[:, each.value] if labels else same).astype(np.float64) for same in (clean, adversarial)]
        # A label answered one by one can be wrong on all samples, a class only on its own.
        rows = np.arange(len(truths)) if labels else each.rows
        yield each, "accuracy of the label" if labels else "accuracy", compared(_mean_of(right[0]), _mean_of(right[1]), rows, columns)


def _mean_of(values: Array) -> Statistic:
    return lambda chosen: float(values[chosen].mean())


def _ap_of(columns: Columns, answers: Sequence[object], value: int) -> Statistic:
    counter = AveragePrecision([value])
    for truth, answer in zip(columns.truths, answers, strict=True):
        assert isinstance(truth, Boxes)
        assert isinstance(answer, Boxes)
        counter.add(answer, truth)
    return lambda chosen: counter.result(chosen.tolist())["ap50"]


def class_name(index: int, names: Sequence[str] | None, first: int = 0, classes: int = 0) -> str:
    """Name of a class where the corpus says it, else its number; of things to be found that are of one class alone, `foreground`.

    first: number of the first class, 1 where 0 is the background.  classes: how many there are.
    """
    place = index - first
    if names and 0 <= place < len(names):
        return names[place]
    return "foreground" if first == 1 and classes == 1 else f"class {index}"
