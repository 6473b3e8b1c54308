"""How many lesions are found, at how many false alarms? FROC and the victim's own threshold, clean and attacked, in 2D and 3D."""

from collections.abc import Sequence
from functools import partial

import numpy as np

from medadv.datasets.labels import Array
from medadv.evaluate.readings import Case, ClassReadings, ClinicalReport, Named, boxes_of, paired, readings
from medadv.report.by_class import class_name
from medadv.scoring.boxes import MATCH_IOU
from medadv.scoring.froc import RATES, Alarms, Curve, alarms

FROC = tuple(f"sensitivity_at_{rate:g}" for rate in RATES)
"""Names of the readings at each rate of false positives per image."""


def box_readings(
    cases: Sequence[Case], *, score_threshold: float, names: Sequence[str] | None = None, iou: float = MATCH_IOU
) -> ClinicalReport:
    """Every class that a truth holds: `froc`, the mean of the sensitivities of `FROC`; sensitivity and false positives per image of the
    detections that reach the victim's threshold.

    Args:
        cases: samples with boxes each, scores in the answers.
        score_threshold: the victim's.
        names: of the foreground classes, from class 1 on; what they do not reach is told by its number.
        iou: overlap from which a detection meets a true box.
    """
    groups = [case.group for case in cases]
    held = sorted({int(value) for case in cases for value in boxes_of(case.truth).classes})
    rows = []
    for value in held:
        clean, attacked = (
            [alarms(boxes_of(answer.answer), boxes_of(case.truth), value, iou) for case, answer in zip(cases, answers, strict=True)]
            for answers in ([case.clean for case in cases], [case.attacked for case in cases])
        )
        boxes = sum(len(each.found) for each in clean)
        named = [Named(name, boxes) for name in ("froc", *FROC, "sensitivity")] + [Named("false_positives_per_image", len(cases))]
        figures = paired(partial(_figures, clean, score_threshold), partial(_figures, attacked, score_threshold))
        name = class_name(value, names, 1, len(held))
        found = readings(named, figures, groups, "detection")
        rows.append(ClassReadings(name=name, held=boxes, threshold=score_threshold, readings=found))
    return ClinicalReport(task="detection", samples=len(cases), groups=len(set(groups)), classes=rows)


def _figures(each: Sequence[Alarms], threshold: float, chosen: Array) -> Array:
    """FROC, sensitivity at each rate, and both figures at the threshold, (10,)."""
    curve = Curve.of([each[row] for row in chosen])
    sensitivities = curve.sensitivities()
    return np.array([sensitivities.mean(), *sensitivities, *curve.at(threshold)])
