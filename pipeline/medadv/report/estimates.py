"""Metrics of the report with bootstrap intervals over samples, and the table per class."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from math import nan

import numpy as np
from scipy.stats import rankdata

from medadv.datasets.labels import Array, Boxes, Label
from medadv.report.columns import AttackColumns, Columns
from medadv.scoring.boxes import AveragePrecision
from medadv.scoring.intervals import Interval, bootstrap, mean_interval, resamples_for
from medadv.scoring.metrics import corpus_metrics

NAMES = {"auc": "AUC", "accuracy": "accuracy", "dice": "Dice", "ap50": "AP at IoU 0.5", "ap": "AP, IoU 0.5 to 0.95", "success": "success"}


def metrics(columns: Columns, answers: Sequence[Label], scores: Array) -> dict[str, Interval]:
    """Every metric of the task, as the manifest has them, with its interval.

    answers: the victim's, empty for segmentation.  scores: (n,), of these answers.
    """
    count = len(scores)
    resamples = resamples_for(columns.task, count)
    each = statistics(columns, answers, scores)
    return {name: bootstrap(statistic, count, resamples) for name, statistic in each.items()}


def success(attack: AttackColumns) -> Interval:
    """Share of the samples that could be attacked on which the attack succeeds; NaN without any."""
    able = attack.success[attack.attackable]
    return mean_interval(able) if len(able) else Interval(nan, nan, nan)


def statistics(columns: Columns, answers: Sequence[Label], scores: Array) -> dict[str, Callable[[Array], float]]:
    """Every metric of the task as a function of indices of samples; arguments as above."""
    if columns.task == "segmentation":
        return {"dice": lambda chosen: float(scores[chosen].mean())}
    if columns.task == "detection":
        average = AveragePrecision(int(c) for truth in columns.truths if isinstance(truth, Boxes) for c in truth.classes)
        for truth, answer in zip(columns.truths, answers, strict=True):
            assert isinstance(truth, Boxes)
            assert isinstance(answer, Boxes)
            average.add(answer, truth)
        return {"ap50": lambda chosen: average.result(chosen.tolist())["ap50"]}
    truths = np.stack([np.asarray(truth) for truth in columns.truths])
    right = truths == np.stack([np.asarray(answer) for answer in answers])
    found: dict[str, Callable[[Array], float]] = {}
    if truths.ndim == 1 and set(truths.tolist()) == {0, 1}:
        positive = np.where(truths == 1, scores, 1 - scores)
        found["auc"] = lambda chosen: auc(truths[chosen] == 1, positive[chosen])
    found["accuracy"] = lambda chosen: float(right[chosen].mean())
    return found


def auc(truth: Array, score: Array) -> float:
    """Area under the ROC curve by ranks (Mann and Whitney 1947), ties counted half; NaN without both classes."""
    positives = int(truth.sum())
    negatives = len(truth) - positives
    if not positives or not negatives:
        return float("nan")
    return float((rankdata(score)[truth].sum() - positives * (positives + 1) / 2) / (positives * negatives))


@dataclass(frozen=True)
class ClassRow:
    """One class of one attack: how many samples or boxes hold it, and its metric before and after."""

    name: str
    count: int
    clean: float
    adversarial: float


def per_class(columns: Columns, attack: AttackColumns, names: Sequence[str] | None) -> tuple[str, str, list[ClassRow]]:
    """(metric, what is counted, rows) for classification and detection; no rows for segmentation, whose masks are not held here."""
    if columns.task == "segmentation" or not columns.truths:
        return "Dice", "images", []
    if columns.task == "detection":
        return "AP at IoU 0.5", "boxes", _boxes_per_class(columns, attack, names)
    truths, clean, adversarial = (
        np.stack([np.asarray(v) for v in values]) for values in (columns.truths, attack.clean, attack.adversarial)
    )
    rows = []
    if truths.ndim == 2:
        for label in range(truths.shape[1]):
            same = [float((answer[:, label] == truths[:, label]).mean()) for answer in (clean, adversarial)]
            rows.append(ClassRow(class_name(label, names), int(truths[:, label].sum()), *same))
        return "accuracy of the label", "positives", rows
    for value in np.unique(truths):
        held = truths == value
        same = [float((answer[held] == value).mean()) for answer in (clean, adversarial)]
        rows.append(ClassRow(class_name(int(value), names), int(held.sum()), *same))
    return "accuracy (recall of the class)", "images", rows


def _boxes_per_class(columns: Columns, attack: AttackColumns, names: Sequence[str] | None) -> list[ClassRow]:
    truths = [truth for truth in columns.truths if isinstance(truth, Boxes)]
    rows = []
    for value in sorted({int(c) for truth in truths for c in truth.classes}):
        of_class = [_only(truth, value) for truth in truths]
        found = []
        for answers in (attack.clean, attack.adversarial):
            pairs = [(t, _only(a, value), 0.0) for t, a in zip(of_class, answers, strict=True) if isinstance(a, Boxes)]
            found.append(corpus_metrics("detection", pairs)["ap50"])
        rows.append(ClassRow(class_name(value, names, first=1), sum(len(t.boxes) for t in of_class), *found))
    return rows


def _only(boxes: Boxes, value: int) -> Boxes:
    keep = boxes.classes == value
    return Boxes(boxes.boxes[keep], boxes.classes[keep], None if boxes.scores is None else boxes.scores[keep])


def class_name(index: int, names: Sequence[str] | None, first: int = 0) -> str:
    """Name of a class where the corpus says it, else its number."""
    place = index - first
    return f"{names[place]} ({index})" if names and 0 <= place < len(names) else f"class {index}"
