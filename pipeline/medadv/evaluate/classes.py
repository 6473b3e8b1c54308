"""How many of the ill are found, and of the healthy left alone? Sensitivity and specificity of each class, clean and attacked.

Two classes, and each label of a sigmoid head: at the clean operating point, the threshold of highest Youden index on the clean answers,
which the attacked answers meet too, as a deployed model would. It is chosen once; intervals are those of the figures at this threshold.
Where probabilities are not known, the answers as they were given. Several classes: each against the rest, by the highest.
"""

from collections.abc import Sequence
from functools import partial

import numpy as np

from medadv.datasets.labels import Array, Prediction
from medadv.evaluate.readings import Case, ClassReadings, ClinicalReport, Named, paired, readings
from medadv.report.by_class import class_name
from medadv.scoring.operating_point import sensitivity, specificity, youden_threshold


def class_readings(
    cases: Sequence[Case], *, head: str, classes: int, names: Sequence[str] | None = None, threshold: float | None = None
) -> ClinicalReport:
    """Every class; of two the positive one, class 1.

    Args:
        cases: samples with a class each (softmax), or labels of 0 and 1.
        head: softmax or sigmoid.
        classes: that the network answers.
        names: of all classes or labels, from the first on; what they do not reach is told by its number.
        threshold: an operating point that is known, in place of the one chosen on the clean answers.
    """
    softmax = head == "softmax"
    values = [1] if softmax and classes == 2 else list(range(classes))
    at_threshold = not softmax or classes == 2
    truths = np.stack([np.asarray(case.truth) for case in cases])
    groups = [case.group for case in cases]
    rows = []
    for value in values:
        true = truths == value if softmax else truths[:, value] == 1
        clean, attacked = ([case.clean for case in cases], [case.attacked for case in cases])
        cut = None
        if at_threshold and all(answer.probabilities is not None for answer in (*clean, *attacked)):
            before, after = (_probabilities(answers, value) for answers in (clean, attacked))
            cut = youden_threshold(before, true) if threshold is None else threshold
            positives = before >= cut, after >= cut
        else:
            positives = _answers(clean, value, softmax), _answers(attacked, value, softmax)
        rows.append(_row(class_name(value, names), true, *positives, groups, cut))
    return ClinicalReport(task="classification", samples=len(cases), groups=len(set(groups)), classes=rows)


def _probabilities(answers: Sequence[Prediction], value: int) -> Array:
    return np.array([answer.probabilities[value] for answer in answers if answer.probabilities is not None])


def _answers(answers: Sequence[Prediction], value: int, softmax: bool) -> Array:
    """Whether each answer is positive, (n,) bool."""
    given = np.stack([np.asarray(answer.answer) for answer in answers])
    return np.asarray(given == value if softmax else given[:, value] == 1)


def _row(name: str, true: Array, clean: Array, attacked: Array, groups: Sequence[str], threshold: float | None) -> ClassReadings:
    def figures(positive: Array, chosen: Array) -> Array:
        return np.array([figure(positive[chosen], true[chosen]) for figure in (sensitivity, specificity)])

    ill = int(true.sum())
    named = [Named("sensitivity", ill), Named("specificity", len(true) - ill)]
    found = readings(named, paired(partial(figures, clean), partial(figures, attacked)), groups, "classification")
    return ClassReadings(name=name, held=ill, threshold=threshold, readings=found)
