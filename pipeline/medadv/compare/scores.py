"""A metric over samples, with its bootstrap interval over their groups."""

from collections.abc import Hashable, Sequence
from typing import Any

import numpy as np

from medadv.datasets.labels import Boxes, Label, Prediction
from medadv.scoring.boxes import AveragePrecision, counts
from medadv.scoring.intervals import Interval, bootstrap, group_draws, percentiles, resamples_for
from medadv.scoring.metrics import corpus_metrics, headline
from medadv.victims.victim import TaskModel


class Scores:
    """The victim's answers to one version of the samples."""

    def __init__(self, judge: TaskModel, answers: Sequence[Prediction], labels: Sequence[Label], groups: Sequence[Hashable]) -> None:
        """groups: of each sample, such as its patient; they are drawn whole."""
        self.task, self.count, self.groups = judge.task, len(labels), groups
        self.rows = [(y, p.answer, judge.score(p, y)) for p, y in zip(answers, labels, strict=True)]
        self.name = headline(self.task, corpus_metrics(self.task, self.rows)) if self.rows else ""
        self.average: AveragePrecision | None = None
        if self.task == "detection":
            self.average = AveragePrecision(int(c) for y in labels if isinstance(y, Boxes) for c in y.classes)
            for truth, answer, _ in self.rows:
                assert isinstance(truth, Boxes)
                assert isinstance(answer, Boxes)
                self.average.add(answer, truth)

    def value(self, chosen: Sequence[int] | None = None) -> float:
        """The headline metric over the chosen samples; NaN where it is not defined."""
        if self.average is not None:
            return self.average.result(chosen)["ap50"]
        rows = self.rows if chosen is None else [self.rows[i] for i in chosen]
        return corpus_metrics(self.task, rows).get(self.name, float("nan"))

    def interval(self) -> Interval:
        """The headline metric with its interval."""
        return bootstrap(lambda chosen: self.value(chosen.tolist()), self.count, resamples_for(self.task, self.count), self.groups)

    def further(self, judge: TaskModel) -> dict[str, float]:
        """Every metric of the task; for detection also missed and invented boxes per image."""
        metrics = corpus_metrics(self.task, self.rows)
        if self.task == "detection":
            threshold = judge.success_rule().score_threshold
            assert threshold is not None
            pairs: list[tuple[Any, Any]] = [(answer, truth) for truth, answer, _ in self.rows]
            metrics["missed"], metrics["invented"] = counts([a for a, _ in pairs], [y for _, y in pairs], threshold)
        return metrics


def paired_difference(first: Scores, second: Scores, *, one_sided: bool = True) -> tuple[Interval, float]:
    """first minus second, whole groups resampled together, and the share of resamples in which first is not below second.

    With one_sided False the share counts the rarer side twice, as for a two-sided test. NaN, as the interval is, where no resample has a
    difference: of a single group there is none.
    """
    chosen = (row.tolist() for row in group_draws(first.groups, resamples_for(first.task, first.count)))
    values = np.array([first.value(rows) - second.value(rows) for rows in chosen])
    values = values[np.isfinite(values)]
    if not len(values):
        return Interval(first.value() - second.value(), float("nan"), float("nan")), float("nan")
    not_below = float((values >= 0).mean())
    share = not_below if one_sided else min(1.0, 2 * min(not_below, float((values <= 0).mean())))
    return Interval(first.value() - second.value(), *percentiles(values)), share
