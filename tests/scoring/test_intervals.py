"""Bootstrap intervals against the closed form of a mean, and what they do where a figure is not defined."""

import numpy as np
import pytest

from medadv.scoring.intervals import FEWEST, bootstrap, draws, mean_interval, resamples_for


def test_the_interval_of_a_mean_is_196_standard_errors_either_side() -> None:
    values = np.random.default_rng(0).normal(5, 2, 400)
    found = mean_interval(values)
    assert found.value == pytest.approx(values.mean())
    assert found.high - found.low == pytest.approx(2 * 1.96 * values.std() / 20, rel=0.1)


def test_resamples_without_a_figure_are_left_out() -> None:
    # Defined only where both of the first two samples were drawn.
    found = bootstrap(lambda chosen: float(len(chosen)) if {0, 1} <= set(chosen.tolist()) else float("nan"), 5, 100)
    assert (found.value, found.low, found.high) == (5, 5, 5)
    nowhere = bootstrap(lambda chosen: float("nan"), 5, 10)
    assert np.isnan([nowhere.value, nowhere.low, nowhere.high]).all()


def test_draws_are_the_same_for_every_attack() -> None:
    assert [row.tolist() for row in draws(7, 3)] == [row.tolist() for row in draws(7, 3)]
    assert [row.shape for row in draws(7, 3)] == [(7,)] * 3


@pytest.mark.parametrize(
    ("task", "count", "expected"),
    [("dice", 1, 1000), ("dice", 40_000, 500), ("dice", 10**9, FEWEST), ("detection", 1, 200), ("detection", 400, 50)],
)
def test_large_corpora_get_fewer_resamples(task: str, count: int, expected: int) -> None:
    assert resamples_for(task, count) == expected
