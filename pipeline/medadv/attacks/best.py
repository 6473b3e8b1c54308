"""Which iterate is kept? The one whose answer is most wrong by the truth; among equals the one of highest loss.

A candidate lies on the lattice, since nothing else can be stored: an iterate that is not whole is rounded and answered once more. Several
restarts are held against each other in the same way.
"""

from typing import Any

import torch
from torch import Tensor

from medadv.attacks.feasible import to_integers
from medadv.attacks.problem import Problem
from medadv.spec.attack import AttackSettings


def keeps_whole(settings: AttackSettings) -> bool:
    """Whether every iterate is on the lattice by itself: whole steps from a whole start within whole bounds."""
    # The momentum of apgd takes parts of its steps.
    return settings.attack != "apgd" and float(settings.step).is_integer() and float(settings.epsilon).is_integer()


def answered_at(settings: AttackSettings, number: int) -> bool:
    """Whether what is answered at the step of that number tells of its iterate as that would be stored: whole, and seen where it is."""
    # The start is whole whatever the steps are, and has no momentum to look ahead along.
    return not settings.diversity and (not number or (keeps_whole(settings) and not settings.nesterov))


class Best:
    """The best candidate so far of every sample of a batch."""

    def __init__(self, problem: Problem) -> None:
        self.problem = problem
        self.delta: Tensor | None = None
        self.wrongness: Tensor | None = None
        self.loss: Tensor | None = None

    def offer(self, delta: Tensor, outputs: Any | None = None) -> None:
        """A candidate for every sample.

        delta: (n, C, *spatial); rounded to the lattice.  outputs: what the victim answers at exactly this `delta`, where that is whole and
        known; it is asked otherwise.
        """
        with torch.no_grad():
            problem = self.problem
            candidate = to_integers(delta.detach(), problem.low, problem.high)
            if outputs is None:
                outputs = problem.objective.forward(problem.images + candidate.to(problem.images))
            wrongness, loss = problem.objective.standing(problem.objective.reference(outputs), problem.targets, problem.settings)
            if self.delta is None or self.wrongness is None or self.loss is None:
                self.delta, self.wrongness, self.loss = candidate, wrongness, loss
                return
            better = (wrongness > self.wrongness) | ((wrongness == self.wrongness) & (loss > self.loss))
            self.delta = torch.where(better.view(-1, *[1] * (delta.ndim - 1)), candidate, self.delta)
            self.wrongness = torch.where(better, wrongness, self.wrongness)
            self.loss = torch.where(better, loss, self.loss)
