"""How well do masks fit, to a clinician? Dice, HD95, surface Dice, sensitivity and precision of each class, clean and attacked.

What counts where something is empty, for one class on one sample (voxels of the truth that belong to no class are left out everywhere):

- The truth holds the class and so does the answer: all figures are defined.
- The truth holds it, the answer does not: Dice, surface Dice and sensitivity are 0; HD95 and precision are not defined. They are counted
  (`undefined_clean`, `undefined_attacked`) and in no mean, so that a lesion that vanished improves no distance unseen.
- The truth does not hold it: no figure but `invented`, the share of these samples on which the answer holds it all the same.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

import numpy as np

from medadv.datasets.labels import Array, Label
from medadv.evaluate.readings import Case, ClassReadings, ClinicalReport, Named, Reading, paired_means, readings
from medadv.report.by_class import class_name
from medadv.scoring.surfaces import surface_figures
from medadv.victims.tasks.segmentation import IGNORE

TOLERANCE_MM = 2.0
"""Of surface Dice: within what two readers differ on organs. Where there is no spacing, one pixel of the stored grid."""
FIGURES = ("dice", "hd95", "surface_dice", "sensitivity", "precision")


@dataclass
class _Measured:
    """Of one class, sample by sample: whether the truth holds it; of clean and attacked answer the figures, and whether it holds it."""

    held: list[bool] = field(default_factory=list)
    figures: list[tuple[list[float], list[float]]] = field(default_factory=list)
    answered: list[tuple[bool, bool]] = field(default_factory=list)


def mask_readings(
    cases: Iterable[Case], *, head: str, classes: int, in_mm: bool, names: Sequence[str] | None = None, tolerance: float | None = None
) -> ClinicalReport:
    """Every foreground class. Cases are read once, and no mask is kept.

    Args:
        cases: samples with a mask each, (*spatial) for softmax, (K, *spatial) else.
        head: softmax, where class 0 is background, or sigmoid, with a mask a label.
        classes: that the network answers.
        in_mm: distances in mm, for which every case needs its spacing; else in pixels of the stored grid.
        names: of the foreground classes, from the first on; what they do not reach is told by its number.
        tolerance: of surface Dice, in the same unit; left out, `TOLERANCE_MM` or one pixel.

    Raises:
        ValueError: mm without spacing.
    """
    tolerance = tolerance if tolerance is not None else TOLERANCE_MM if in_mm else 1.0
    values = list(range(1, classes)) if head == "softmax" else list(range(classes))
    measured = {value: _Measured() for value in values}
    groups: list[str] = []
    for case in cases:
        groups.append(case.group)
        if in_mm and case.spacing_mm is None:
            raise ValueError("distances in mm need the voxel spacing, and a case has none")
        labels = (case.truth, case.clean.answer, case.attacked.answer)
        for value, found in measured.items():
            truth, clean, attacked = (_mask(label, case.truth, head, value) for label in labels)
            spacing = case.spacing_mm if in_mm and case.spacing_mm is not None else (1.0,) * truth.ndim
            found.held.append(bool(truth.any()))
            found.answered.append((bool(clean.any()), bool(attacked.any())))
            nothing = [float("nan")] * len(FIGURES)
            held = found.held[-1]
            before, after = (_figures(answer, truth, spacing, tolerance) if held else nothing for answer in (clean, attacked))
            found.figures.append((before, after))
    unit = "mm" if in_mm else "px"
    rows = [
        ClassReadings(
            name=class_name(value, names, values[0], len(values)),
            held=sum(measured[value].held),
            threshold=None,
            readings=_readings(measured[value], groups, unit),
        )
        for value in values
    ]
    return ClinicalReport(task="segmentation", samples=len(groups), groups=len(set(groups)), tolerance=tolerance, classes=rows)


def _mask(label: Label, truth: Label, head: str, value: int) -> Array:
    """Where a label holds a class, (*spatial) bool."""
    array, known = np.asarray(label), np.asarray(truth)
    if head == "softmax":
        return np.asarray((array == value) & (known != IGNORE))
    return np.asarray((array[value] == 1) & (known[value] != IGNORE))


def _figures(answer: Array, truth: Array, spacing: tuple[float, ...], tolerance: float) -> list[float]:
    """In the order of `FIGURES`; the truth is not empty."""
    both, said, true = int((answer & truth).sum()), int(answer.sum()), int(truth.sum())
    distance, surface = surface_figures(answer, truth, spacing, tolerance)
    return [2 * both / (said + true), distance, surface, both / true, both / said if said else float("nan")]


def _readings(measured: _Measured, groups: Sequence[str], unit: str) -> list[Reading]:
    held = np.array(measured.held, bool)
    figures = np.array(measured.figures, np.float64).reshape(len(held), 2, len(FIGURES))
    invented = np.where(held[:, None], np.nan, np.array(measured.answered, np.float64).reshape(len(held), 2))
    clean, attacked = np.concatenate([figures, invented[:, :, None]], axis=2).swapaxes(0, 1)
    missing = [np.isnan(values[held]).sum(0) for values in (clean, attacked)]
    named = [
        Named(name, int(held.sum()), unit if name == "hd95" else "", (int(missing[0][place]), int(missing[1][place])))
        for place, name in enumerate(FIGURES)
    ]
    return readings([*named, Named("invented", int((~held).sum()))], paired_means(clean, attacked), groups, "segmentation")
