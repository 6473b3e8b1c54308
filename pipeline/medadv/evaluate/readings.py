"""What is a clinical figure, clean, attacked and the difference? Records with bootstrap intervals over groups."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from pydantic import Field

from medadv.common.record import Closed, Count
from medadv.datasets.labels import Array, Boxes, Label, Prediction
from medadv.report.record import Figure
from medadv.scoring.intervals import Interval, group_draws, percentiles, resamples_for

Statistic = Callable[[Array], Array]
"""From indices of samples to (3, k): k figures on clean images, on attacked ones, and their differences; NaN where not defined."""


@dataclass(frozen=True, eq=False)
class Case:
    """One sample as it was stored: its truth, and what the victim answers to its clean and to its attacked image.

    truth: as the shards hold it.  group: drawn whole by the bootstrap.  spacing_mm: of the voxels along the mask's axes, as
    `store.reader.spacing_of` gives it; None for photographs.  Probabilities are wanted of classifiers where they are known.
    """

    truth: Label
    clean: Prediction
    attacked: Prediction
    group: str
    spacing_mm: tuple[float, ...] | None = None


def with_score(answer: Label, truth: Label, score: float) -> Prediction:
    """An answer of two classes with its probabilities, which follow from what is stored.  score: the probability of the truth."""
    return Prediction(answer, np.array([1 - score, score] if int(np.asarray(truth)) else [score, 1 - score], np.float64))


def boxes_of(label: Label) -> Boxes:
    """A label of detection."""
    assert isinstance(label, Boxes)
    return label


class Reading(Closed):
    """One figure of one class."""

    name: str
    unit: str = Field(description="mm, px, or empty for shares and numbers")
    clean: Figure
    attacked: Figure
    difference: Figure = Field(description="attacked less clean, of the same samples in every resample")
    over: Count = Field(description="how many samples or boxes it is taken over")
    undefined_clean: Count = Field(description="on so many of these samples it is not defined; they are in no mean")
    undefined_attacked: Count


class ClassReadings(Closed):
    """What is read of one class."""

    name: str
    held: Count = Field(description="samples that hold the class, or its true boxes")
    threshold: float | None = Field(description="probability or score from which an answer is positive; null for the answers as given")
    readings: list[Reading]

    def reading(self, name: str) -> Reading:
        """The one of that name."""
        return next(each for each in self.readings if each.name == name)


class ClinicalReport(Closed):
    """All classes of a task.  Intervals are over groups."""

    task: str
    samples: Count
    groups: Count
    tolerance: float | None = Field(None, description="of surface Dice, in the unit of the distances")
    classes: list[ClassReadings]


@dataclass(frozen=True)
class Named:
    """One of a statistic's figures.  over: samples or boxes it is taken over.  undefined: on how many it is not, clean and attacked."""

    name: str
    over: int
    unit: str = ""
    undefined: tuple[int, int] = (0, 0)


def readings(named: Sequence[Named], statistic: Statistic, groups: Sequence[str], task: str) -> list[Reading]:
    """Figures with their intervals; there is none of a figure that a single group has, a class that one patient alone holds, say.

    named: the statistic's figures in their order.  groups: of every sample that it may be asked for.  task: says how often to resample.
    """
    resamples = [statistic(chosen) for chosen in group_draws(groups, resamples_for(task, len(groups)))]
    drawn = np.array(resamples).reshape(-1, 3, len(named))
    values, having = statistic(np.arange(len(groups))), _groups_having(statistic, groups)
    # Whenever that group is drawn, however often, the figure is the same: no spread is seen, and that is no sureness.
    drawn[:, having < 2] = np.nan
    found = []
    for place, one in enumerate(named):
        clean, attacked, difference = (
            Figure.of(Interval(float(values[which, place]), *percentiles(drawn[:, which, place]))) for which in range(3)
        )
        sizes = {"over": one.over, "undefined_clean": one.undefined[0], "undefined_attacked": one.undefined[1]}
        found.append(Reading(name=one.name, unit=one.unit, clean=clean, attacked=attacked, difference=difference, **sizes))
    return found


def _groups_having(statistic: Statistic, groups: Sequence[str]) -> Array:
    """Of how many groups each figure is defined by itself, (3, k)."""
    places: dict[str, list[int]] = {}
    for row, group in enumerate(groups):
        places.setdefault(group, []).append(row)
    return np.sum([np.isfinite(statistic(np.array(rows))) for rows in places.values()], axis=0)


def paired(clean: Callable[[Array], Array], attacked: Callable[[Array], Array]) -> Statistic:
    """A statistic from two that give (k,): the difference is that of both values."""

    def both(chosen: Array) -> Array:
        before, after = clean(chosen), attacked(chosen)
        return np.stack([before, after, after - before])

    return both


def paired_means(clean: Array, attacked: Array) -> Statistic:
    """Means of per-sample values (n, k), NaN where not defined: each over its own defined samples, the difference over those of both."""
    each = np.stack([clean, attacked, attacked - clean])
    defined = ~np.isnan(each)
    filled = np.where(defined, each, 0.0)

    def means(chosen: Array) -> Array:
        counts = defined[:, chosen].sum(1)
        return np.asarray(np.where(counts > 0, filled[:, chosen].sum(1) / np.maximum(counts, 1), np.nan))

    return means
