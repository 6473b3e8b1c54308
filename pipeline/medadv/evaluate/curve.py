"""How does the metric fall with epsilon, and where has it halved? On straight lines between the measured epsilons, from 0 up."""

import itertools
import math
from collections.abc import Callable, Sequence
from typing import Literal

import numpy as np
from pydantic import Field

from medadv.common.record import Closed
from medadv.datasets.labels import Array
from medadv.report.record import Figure
from medadv.scoring.intervals import LEVEL, Interval, group_draws, percentiles, resamples_for

Metric = Callable[[Array], float]
"""From indices of samples to the metric over them; NaN where it is not defined."""


class CurvePoint(Closed):
    """The metric at one epsilon, in stored units; 0 is the clean images."""

    epsilon: float
    metric: Figure


class Halving(Closed):
    """The epsilon at which the metric is half of what it is on clean images, and its interval.

    `beyond`: it is more than half at the largest epsilon still, and value is null. `undefined`: on clean images it is not defined, or 0.
    An end of the interval that lies beyond the largest epsilon is null, too.
    """

    state: Literal["measured", "beyond", "undefined"]
    value: float | None
    low: float | None
    high: float | None
    largest: float = Field(description="largest measured epsilon")
    resampled: bool = Field(True, description="false of a single group, of which there is no interval: both ends are null")

    @property
    def text(self) -> str:
        """In words, without the unit: `3.5 (2.1 to > 8)`."""
        if self.state == "undefined":
            return "undefined"
        value, low, high = (f"> {self.largest:g}" if end is None else f"{end:.3g}" for end in (self.value, self.low, self.high))
        return f"{value} ({low} to {high})" if self.resampled else value


class Curve(Closed):
    """The metric over epsilon."""

    points: list[CurvePoint]
    halving: Halving


def mean_of(scores: Array) -> Metric:
    """The metric that is the mean of per-sample scores, (n,)."""
    return lambda chosen: float(scores[chosen].mean()) if len(chosen) else math.nan


def metric_curve(metrics: dict[float, Metric], groups: Sequence[str], task: str) -> Curve:
    """The metric at every epsilon, all resampled together; of a single group there are no intervals.

    Args:
        metrics: epsilon in stored units -> metric of the answers there, of the same samples; 0, the clean images, must be among them.
        groups: of each sample, drawn whole.
        task: says how often to resample.

    Raises:
        ValueError: no epsilon beside 0, or none at 0.
    """
    epsilons = sorted(metrics)
    if len(epsilons) < 2 or epsilons[0] != 0:
        raise ValueError(f"a curve goes from epsilon 0 to larger ones, not over {epsilons}")

    def values_of(chosen: Array) -> list[float]:
        return [metrics[epsilon](chosen) for epsilon in epsilons]

    values = values_of(np.arange(len(groups)))
    resamples = [values_of(chosen) for chosen in group_draws(groups, resamples_for(task, len(groups)))]
    drawn = np.array(resamples).reshape(-1, len(epsilons))
    points = [
        CurvePoint(epsilon=epsilon, metric=Figure.of(Interval(value, *percentiles(drawn[:, place]))))
        for place, (epsilon, value) in enumerate(zip(epsilons, values, strict=True))
    ]
    found = [halving_epsilon(epsilons, row) for row in drawn.tolist()]
    return Curve(points=points, halving=_halving(halving_epsilon(epsilons, values), found, epsilons[-1]))


def halving_epsilon(epsilons: Sequence[float], values: Sequence[float]) -> float:
    """Where the metric first comes down to half of its clean value, on straight lines between what was measured.

    epsilons: rising, the first is 0.  values: the metric there; those that are NaN are passed over.

    Returns:
        The epsilon; infinity where it is above half at all of them; NaN where the clean value is NaN or not above 0.
    """
    half = values[0] / 2
    if not half > 0:
        return math.nan
    measured = [(epsilon, value) for epsilon, value in zip(epsilons, values, strict=True) if not math.isnan(value)]
    for (below, before), (above, after) in itertools.pairwise(measured):
        if after <= half:
            return below + (before - half) / (before - after) * (above - below)
    return math.inf


def _halving(value: float, drawn: Sequence[float], largest: float) -> Halving:
    if math.isnan(value):
        return Halving(state="undefined", value=None, low=None, high=None, largest=largest)
    # Order statistics, rounded outwards: between a number and infinity nothing can be interpolated.
    order = sorted(each for each in drawn if not math.isnan(each))
    last = len(order) - 1
    low, high = (order[math.floor((1 - LEVEL) / 2 * last)], order[math.ceil((1 + LEVEL) / 2 * last)]) if order else (math.nan, math.nan)
    ends = {name: end if math.isfinite(end) else None for name, end in (("value", value), ("low", low), ("high", high))}
    return Halving(state="measured" if math.isfinite(value) else "beyond", largest=largest, resampled=bool(order), **ends)
