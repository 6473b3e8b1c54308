"""How sure is a figure? Bootstrap intervals over samples."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from medadv.datasets.labels import Array

RESAMPLES = 1000
RESAMPLES_DETECTION = 200
"""AP is ranked anew for every resample."""
LEVEL = 0.95


@dataclass(frozen=True)
class Interval:
    """A value and its percentile bootstrap interval of 95 % over samples."""

    value: float
    low: float
    high: float


def draws(count: int, resamples: int, seed: int = 0) -> Array:
    """Bootstrap indices (resamples, count). The same for every attack, so that differences are paired."""
    return np.random.default_rng(seed).integers(0, count, (resamples, count))


def interval(statistic: Callable[[Sequence[int] | None], float], count: int, resamples: int = RESAMPLES) -> Interval:
    """Bootstrap a statistic that takes indices (None: all samples once). Resamples on which it is not defined are left out."""
    values = np.array([statistic(row.tolist()) for row in draws(count, resamples)])
    values = values[np.isfinite(values)]
    low, high = np.quantile(values, [(1 - LEVEL) / 2, (1 + LEVEL) / 2]) if len(values) else (np.nan, np.nan)
    return Interval(statistic(None), float(low), float(high))


def mean_interval(values: Array) -> Interval:
    """Interval of a mean over samples."""
    means = values[draws(len(values), RESAMPLES)].mean(1)
    low, high = np.quantile(means, [(1 - LEVEL) / 2, (1 + LEVEL) / 2])
    return Interval(float(values.mean()), float(low), float(high))
