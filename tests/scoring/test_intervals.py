"""Bootstrap intervals against the closed form of a mean, and what they do where a figure is not defined."""

from typing import Any

import numpy as np
import pytest

from medadv.scoring.intervals import FEWEST, bootstrap, draws, group_draws, mean_interval, resamples_for


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


def test_copies_in_a_group_make_no_interval_narrower() -> None:
    """Each value ten times, as ten slices of one patient: drawn singly the interval shrinks by the root of ten, in groups it stays."""
    values = np.random.default_rng(1).normal(0, 1, 40)
    copied, groups = np.repeat(values, 10), np.repeat(np.arange(40), 10).tolist()

    def width(**how: Any) -> float:
        found = bootstrap(lambda chosen: float(copied[chosen].mean()), 400, 1000, **how)
        return found.high - found.low

    alone = mean_interval(values)
    assert width(groups=groups) == pytest.approx(alone.high - alone.low)
    assert width() == pytest.approx((alone.high - alone.low) / np.sqrt(10), rel=0.15)


def test_groups_are_drawn_whole() -> None:
    groups = ["b", "a", "b", "c", "a"]
    for chosen in group_draws(groups, 20):
        drawn = [groups[row] for row in chosen]
        # As many groups as there are; each row of one as often as every other row of it.
        assert sum(drawn.count(name) / groups.count(name) for name in "abc") == 3
        assert chosen.tolist().count(0) == chosen.tolist().count(2)
    assert len(next(iter(group_draws([], 1)))) == 0


def test_of_a_single_group_there_is_no_interval() -> None:
    assert list(group_draws(["a"] * 4, 20)) == []
    found = bootstrap(lambda chosen: float(len(chosen)), 4, 20, ["a"] * 4)
    assert (found.value, np.isnan([found.low, found.high]).all()) == (4, True)


def test_groups_of_one_are_samples() -> None:
    assert [row.tolist() for row in group_draws(list("abcdefg"), 3)] == [row.tolist() for row in draws(7, 3)]
