"""The operating point where a hand finds it, and against every cut."""

import numpy as np
import pytest

from medadv.scoring.operating_point import UNDECIDED, sensitivity, specificity, youden_threshold


def test_by_hand() -> None:
    truths = np.array([0, 0, 0, 1, 1], bool)
    assert youden_threshold(np.array([0.1, 0.2, 0.3, 0.7, 0.8]), truths) == pytest.approx(0.5)
    # The healthy one at 0.6 is given up: cutting between 0.3 and 0.4 finds both.
    assert youden_threshold(np.array([0.1, 0.3, 0.6, 0.4, 0.8]), truths) == pytest.approx(0.35)


def test_of_equal_cuts_the_one_nearest_to_a_half() -> None:
    # Positives 0.2 and 0.7, negatives 0.1 and 0.6: cuts at 0.15 and at 0.65 both have an index of 1/2.
    assert youden_threshold(np.array([0.2, 0.7, 0.1, 0.6]), np.array([1, 1, 0, 0], bool)) == pytest.approx(0.65)


@pytest.mark.parametrize("seed", range(4))
def test_no_cut_is_better(seed: int) -> None:
    generator = np.random.default_rng(seed)
    truths = generator.random(60) < 0.4
    probabilities = np.round(np.clip(generator.normal(0.4 + 0.2 * truths, 0.2), 0, 1), 2)

    def index(cut: float) -> float:
        return sensitivity(probabilities >= cut, truths) + specificity(probabilities >= cut, truths) - 1

    assert index(youden_threshold(probabilities, truths)) == pytest.approx(max(index(cut) for cut in np.linspace(0, 1.01, 2021)))


def test_where_nothing_tells() -> None:
    assert youden_threshold(np.full(4, 0.3), np.array([1, 0, 1, 0], bool)) == UNDECIDED
    assert youden_threshold(np.array([0.1, 0.9]), np.array([1, 1], bool)) == UNDECIDED
    assert youden_threshold(np.array([0.1, 0.9]), np.array([1, 0], bool)) == UNDECIDED
    assert np.isnan(sensitivity(np.ones(2, bool), np.zeros(2, bool)))
    assert np.isnan(specificity(np.ones(2, bool), np.ones(2, bool)))
