"""How far does a metric drop, and how sure is that? Clean and adversarial metrics and their difference, over a corpus and its parts."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from math import nan

import numpy as np
from scipy.stats import rankdata

from medadv.datasets.labels import Array, Boxes, Label
from medadv.report.columns import AttackColumns, Columns
from medadv.scoring.boxes import AveragePrecision
from medadv.scoring.intervals import Interval, bootstrap, group_draws, percentiles, resamples_for

NAMES = {"auc": "AUC", "accuracy": "accuracy", "dice": "Dice", "ap50": "AP at IoU 0.5", "ap": "AP, IoU 0.5 to 0.95", "success": "success"}
Statistic = Callable[[Array], float]
"""From indices of samples to a figure."""


@dataclass(frozen=True)
class Compared:
    """A metric on clean and on adversarial images, and its drop: clean less adversarial, of the same samples in every resample."""

    clean: Interval
    adversarial: Interval
    drop: Interval


def compared(clean: Statistic, adversarial: Statistic, rows: Array, columns: Columns) -> Compared:
    """Both statistics over some samples, with intervals over whole groups; of a single group there is none.

    rows: (n,) indices of the samples, at least one.
    """
    rows = np.asarray(rows)
    values = [clean(rows), adversarial(rows)]
    values.append(values[0] - values[1])
    groups = [columns.groups[row] for row in rows]
    drawn = []
    for chosen in group_draws(groups, resamples_for(columns.task, len(rows))):
        before, after = clean(rows[chosen]), adversarial(rows[chosen])
        drawn.append((before, after, before - after))
    ends = np.array(drawn).reshape(-1, 3)
    return Compared(*(Interval(value, *percentiles(ends[:, place])) for place, value in enumerate(values)))


def metrics(columns: Columns, attack: AttackColumns, rows: Array | None = None) -> dict[str, Compared]:
    """Every metric of the task, as the manifest has them.  rows: (n,) indices of samples, all by default."""
    chosen = np.arange(len(columns.ids)) if rows is None else rows
    before, after = both(columns, attack)
    # Of a part of the samples two classes may become one, for which there is no AUC.
    return {name: compared(before[name], after[name], chosen, columns) for name in before}


def both(columns: Columns, attack: AttackColumns) -> tuple[dict[str, Statistic], dict[str, Statistic]]:
    """The task's statistics of the clean and of the adversarial answers."""
    clean, adversarial = (attack.clean, attack.score_clean), (attack.adversarial, attack.score_adversarial)
    return statistics(columns, *clean), statistics(columns, *adversarial)


def success(columns: Columns, attack: AttackColumns) -> Interval:
    """Share of the samples that could be attacked on which the attack succeeds; NaN without any, no interval for a single group."""
    rows = np.flatnonzero(attack.attackable)
    if not len(rows):
        return Interval(nan, nan, nan)
    able, groups = attack.success[rows], [columns.groups[row] for row in rows]
    return bootstrap(lambda chosen: float(able[chosen].mean()), len(able), resamples_for("", len(able)), groups)


def statistics(columns: Columns, answers: Sequence[Label], scores: Array) -> dict[str, Statistic]:
    """Every metric of the task as a function of indices of samples.

    answers: the victim's, empty for segmentation.  scores: (n,), of these answers.
    """
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
    found: dict[str, Statistic] = {}
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
