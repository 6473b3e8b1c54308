"""From which probability on is an answer positive? The operating point of a test, its sensitivity and its specificity."""

import numpy as np

from medadv.datasets.labels import Array

UNDECIDED = 0.5
"""Where no cut tells positives from negatives better than chance."""


def youden_threshold(probabilities: Array, truths: Array) -> float:
    """The cut of highest sensitivity + specificity - 1 (Youden, Cancer 1950).

    It lies half way between the two probabilities that it separates, so that no answer sits on it; of equal cuts the one nearest to 0.5 is
    taken, then the lower.

    probabilities: (n,) of the positive class.  truths: (n,) bool.
    """
    values = np.unique(probabilities)
    if len(values) < 2 or truths.all() or not truths.any():
        return UNDECIDED
    cuts = (values[:-1] + values[1:]) / 2
    ones, zeros = np.sort(probabilities[truths]), np.sort(probabilities[~truths])
    index = np.searchsorted(zeros, cuts) / len(zeros) - np.searchsorted(ones, cuts) / len(ones)
    best = index.max()
    if best <= 0:
        return UNDECIDED
    equal = cuts[np.isclose(index, best, rtol=0, atol=1e-12)]
    return float(equal[np.abs(equal - UNDECIDED).argmin()])


def sensitivity(answers: Array, truths: Array) -> float:
    """Share of the positives that are called positive; NaN without any.  answers, truths: (n,) bool."""
    return float(answers[truths].mean()) if truths.any() else float("nan")


def specificity(answers: Array, truths: Array) -> float:
    """Share of the negatives that are called negative; NaN without any.  answers, truths: (n,) bool."""
    return sensitivity(~answers, ~truths)
