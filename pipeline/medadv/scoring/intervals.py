"""How sure is a figure? Bootstrap intervals over samples, or over groups of them that belong together."""

from collections.abc import Callable, Hashable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from medadv.datasets.labels import Array

LEVEL = 0.95
RESAMPLES = 1000
RESAMPLES_DETECTION = 200
"""AP is ranked anew for every resample."""
BUDGET = 20_000_000
BUDGET_DETECTION = 20_000
"""Samples drawn in all; larger corpora get fewer resamples, and need fewer."""
FEWEST = 20


@dataclass(frozen=True)
class Interval:
    """A value and its percentile bootstrap interval of 95 % over samples; NaN where it is not defined."""

    value: float
    low: float
    high: float


def resamples_for(task: str, count: int) -> int:
    """How often so many samples are drawn again."""
    most, budget = (RESAMPLES_DETECTION, BUDGET_DETECTION) if task == "detection" else (RESAMPLES, BUDGET)
    return max(FEWEST, min(most, budget // max(1, count)))


def draws(count: int, resamples: int, seed: int = 0) -> Iterator[Array]:
    """Bootstrap indices (count,), one resample at a time. The same for every attack, so that differences are paired."""
    generator = np.random.default_rng(seed)
    for _ in range(resamples):
        yield generator.integers(0, count, count)


def group_draws(groups: Sequence[Hashable], resamples: int, seed: int = 0) -> Iterator[Array]:
    """Bootstrap indices in which whole groups are drawn: as many groups as there are, each with all its samples.

    groups: the group of each sample (a patient, say). Images of one patient resemble each other, so that drawing them singly would count
    one observation several times and make intervals too narrow. A resample holds as many samples as its groups have. Where each sample is a
    group of its own, the same as `draws`. Of a single group there is none: all would be alike, and their interval a point.
    """
    rows: dict[Hashable, list[int]] = {}
    for row, group in enumerate(groups):
        rows.setdefault(group, []).append(row)
    members = [np.array(each) for each in rows.values()]
    if len(members) == 1:
        return
    for chosen in draws(len(members), resamples, seed):
        yield np.concatenate([members[group] for group in chosen]) if len(members) else np.zeros(0, np.int64)


def percentiles(values: Array) -> tuple[float, float]:
    """Both ends of the interval that holds `LEVEL` of the resamples; those on which a figure is not defined are left out."""
    values = values[np.isfinite(values)]
    low, high = np.quantile(values, [(1 - LEVEL) / 2, (1 + LEVEL) / 2]) if len(values) else (np.nan, np.nan)
    return float(low), float(high)


def bootstrap(statistic: Callable[[Array], float], count: int, resamples: int, groups: Sequence[Hashable] | None = None) -> Interval:
    """Interval of a statistic that takes indices of samples.

    groups: of each sample, drawn whole, so that the ends are NaN where there is a single one; None draws samples.
    """
    drawn = draws(count, resamples) if groups is None else group_draws(groups, resamples)
    values = np.array([statistic(chosen) for chosen in drawn])
    return Interval(statistic(np.arange(count)), *percentiles(values))


def mean_interval(values: Array, groups: Sequence[Hashable] | None = None) -> Interval:
    """Interval of a mean over samples. values: (n,).  groups: as in `bootstrap`."""
    return bootstrap(lambda chosen: float(values[chosen].mean()), len(values), resamples_for("", len(values)), groups)
