"""Where a metric halves: by hand on straight lines, and what the interval says past the last epsilon."""

import math

import numpy as np
import pytest

from medadv.common.record import plain
from medadv.evaluate.curve import Halving, halving_epsilon, mean_of, metric_curve


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        ([0.8, 0.6, 0.4, 0.1], 2.0),  # half is measured
        ([0.8, 0.6, 0.2, 0.1], 1.5),  # half way from 0.6 to 0.2
        ([0.8, 0.0, 0.0, 0.0], 0.5),
        ([0.8, 0.7, 0.6, 0.5], math.inf),
        ([0.8, 0.4, 0.6, 0.1], 1.0),  # the first time counts
        ([0.8, math.nan, 0.2, 0.1], 4 / 3),  # from 0 to 2 past what is not defined
    ],
)
def test_halving_by_hand(values: list[float], expected: float) -> None:
    assert halving_epsilon([0, 1, 2, 4], values) == pytest.approx(expected)


@pytest.mark.parametrize("clean", [0.0, math.nan])
def test_nothing_halves_that_was_not(clean: float) -> None:
    assert math.isnan(halving_epsilon([0, 1], [clean, 0.0]))
    found = metric_curve({0: lambda chosen: clean, 1: lambda chosen: 0.0}, ["a", "b"], "classification").halving
    assert (found.state, found.value, found.text) == ("undefined", None, "undefined")


def test_a_curve_of_means() -> None:
    clean, at_2, at_4 = np.ones(6), np.full(6, 0.75), np.array([0.25] * 6)
    curve = metric_curve({0: mean_of(clean), 4: mean_of(at_4), 2: mean_of(at_2)}, list("aabbcc"), "segmentation")
    assert [(point.epsilon, point.metric.value) for point in curve.points] == [(0, 1), (2, 0.75), (4, 0.25)]
    # Every sample is alike: no resample says anything else.
    assert curve.halving == Halving(state="measured", value=3, low=3, high=3, largest=4)
    assert curve.halving.text == "3 (3 to 3)"
    assert plain(curve)["halving"]["value"] == 3


def test_an_interval_may_reach_past_the_largest_epsilon() -> None:
    """Half of the patients break at once, half never do: some resamples halve, others do not."""
    broken = np.array([0.0, 1.0] * 10)
    found = metric_curve({0: mean_of(np.ones(20)), 8: mean_of(broken)}, [str(k) for k in range(20)], "classification").halving
    assert (found.state, found.value) == ("measured", 8)
    assert found.low == pytest.approx(8 * 0.5 / 0.7, abs=0.4)
    assert found.high is None
    assert found.text.endswith("to > 8)")
    whole = metric_curve({0: mean_of(np.ones(4)), 8: mean_of(np.ones(4))}, list("abcd"), "classification").halving
    assert (whole.state, whole.value, whole.text) == ("beyond", None, "> 8 (> 8 to > 8)")


def test_groups_are_drawn_whole() -> None:
    """Copies of a patient's slices change no end of the interval."""
    generator = np.random.default_rng(0)
    scores = [generator.random(12) * (1 - 0.2 * epsilon) for epsilon in range(4)]
    alone = metric_curve({e: mean_of(s) for e, s in enumerate(scores)}, [str(k) for k in range(12)], "segmentation")
    copied = metric_curve({e: mean_of(np.repeat(s, 7)) for e, s in enumerate(scores)}, [str(k // 7) for k in range(84)], "segmentation")
    assert copied.halving.low == pytest.approx(alone.halving.low)
    assert copied.halving.high == pytest.approx(alone.halving.high)


@pytest.mark.parametrize(("at_8", "state", "text"), [(0.25, "measured", "5.33"), (0.75, "beyond", "> 8")])
def test_of_a_single_group_there_are_no_intervals(at_8: float, state: str, text: str) -> None:
    curve = metric_curve({0: mean_of(np.ones(4)), 8: mean_of(np.full(4, at_8))}, ["a"] * 4, "segmentation")
    assert [(point.metric.value, point.metric.low, point.metric.high) for point in curve.points] == [(1, None, None), (at_8, None, None)]
    found = curve.halving
    assert (found.state, found.low, found.high, found.resampled, found.text) == (state, None, None, False, text)


@pytest.mark.parametrize("epsilons", [[0.0], [1.0, 2.0]])
def test_a_curve_starts_at_the_clean_images(epsilons: list[float]) -> None:
    with pytest.raises(ValueError, match="epsilon 0"):
        metric_curve({epsilon: mean_of(np.ones(2)) for epsilon in epsilons}, ["a", "b"], "classification")
