"""Is the model good enough? What `--require` asks of an evaluation: a metric's lower end, at an epsilon."""

import re
from collections.abc import Sequence
from dataclasses import dataclass

from medadv.common.errors import SpecError
from medadv.evaluate.record import Evaluation
from medadv.scoring.metrics import HEADLINE
from medadv.spec.run_spec import RunSpec

PATTERN = re.compile(r"\s*(?P<metric>[a-z0-9_]+)\s*(@\s*(?P<epsilon>[0-9.]+)\s*)?>=\s*(?P<least>[0-9.]+)\s*")


@dataclass(frozen=True)
class Requirement:
    """`dice@2>=0.60`: at epsilon 2 the lower end of the Dice's interval is at least 0.60. Without an epsilon, at the largest one."""

    text: str
    metric: str
    epsilon: float | None
    least: float

    @classmethod
    def of(cls, text: str) -> "Requirement":
        """From the command line.  Raises SpecError where it is none."""
        found = PATTERN.fullmatch(text)
        try:
            assert found is not None
            epsilon = None if found["epsilon"] is None else float(found["epsilon"])
            return cls(text, found["metric"], epsilon, float(found["least"]))
        except (AssertionError, ValueError):
            raise SpecError(f"--require {text!r}: write METRIC>=VALUE or METRIC@EPSILON>=VALUE, such as 'dice>=0.60'") from None


def check(requirements: Sequence[Requirement], spec: RunSpec) -> None:
    """Raise SpecError where an evaluation's corpus cannot answer what is required, before it is made."""
    metrics = HEADLINE[spec.data.task]
    epsilons = sorted({0.0, *(attack.epsilon for attack in spec.attacks.values())})
    for asked in requirements:
        if asked.metric not in metrics:
            raise SpecError(f"--require {asked.text!r}: no metric {asked.metric} of {', '.join(metrics)}")
        # All of them are shares of 1; somebody who means 60 % would wait for a corpus that cannot reach 60.
        if asked.least > 1:
            raise SpecError(f"--require {asked.text!r}: no {asked.metric} is above 1; 60 % is written 0.6")
        if asked.epsilon is not None and asked.epsilon not in epsilons:
            measured = ", ".join(f"{each:g}" for each in epsilons)
            raise SpecError(f"--require {asked.text!r}: not measured at epsilon {asked.epsilon:g}, only at {measured}")


def unmet(requirements: Sequence[Requirement], evaluation: Evaluation) -> list[str]:
    """What is asked for and not reached, a line each.

    What is not defined, such as the AUC of one class, is not reached, whatever its resamples say; nor is what has no interval.
    """
    lines = []
    for asked in requirements:
        epsilon = max(at.epsilon for at in evaluation.epsilons) if asked.epsilon is None else asked.epsilon
        points = evaluation.curves[asked.metric].points if asked.metric in evaluation.curves else []
        figure = next((point.metric for point in points if point.epsilon == epsilon), None)
        if figure is None or figure.value is None or figure.low is None or figure.low < asked.least:
            value, low = ("n/a" if each is None else f"{each:.3f}" for each in (figure and figure.value, figure and figure.low))
            why = ", for of a single group there is none" if evaluation.groups == 1 else ""
            lines.append(f"{asked.text}: {asked.metric} at epsilon {epsilon:g} is {value}, the lower end of its interval {low}{why}")
    return lines
