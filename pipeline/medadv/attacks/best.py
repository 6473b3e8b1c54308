"""Which iterate is kept? The one whose answer is most wrong by the truth; among equals the one of highest loss.

A candidate lies on the lattice, since nothing else can be stored: an iterate that is not whole is rounded and answered once more. Several
restarts are held against each other in the same way.
"""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from medadv.attacks.feasible import to_integers
from medadv.attacks.objective import Objective
from medadv.spec.attack import AttackSettings

Answered = Callable[[Tensor], Any]


def keeps_whole(settings: AttackSettings) -> bool:
    """Whether every iterate is on the lattice by itself: whole steps from a whole start within whole bounds."""
    return float(settings.step).is_integer() and float(settings.epsilon).is_integer()


class Best:
    """The best candidate so far of every sample of a batch."""

    def __init__(self, objective: Objective, images: Tensor, targets: Any, low: Tensor, high: Tensor) -> None:
        self.objective, self.images, self.targets, self.low, self.high = objective, images, targets, low, high
        self.delta: Tensor | None = None
        self.wrongness: Tensor | None = None
        self.loss: Tensor | None = None

    def offer(self, delta: Tensor, outputs: Any | None = None) -> None:
        """A candidate for every sample.

        delta: (n, C, *spatial); rounded to the lattice.  outputs: what the victim answers at exactly this `delta`, where that is whole and
        known; it is asked otherwise.
        """
        with torch.no_grad():
            candidate = to_integers(delta.detach(), self.low, self.high)
            if outputs is None:
                outputs = self.objective.forward(self.images + candidate.to(self.images))
            wrongness, loss = self.objective.standing(self.objective.reference(outputs), self.targets)
            if self.delta is None or self.wrongness is None or self.loss is None:
                self.delta, self.wrongness, self.loss = candidate, wrongness, loss
                return
            better = (wrongness > self.wrongness) | ((wrongness == self.wrongness) & (loss > self.loss))
            self.delta = torch.where(better.view(-1, *[1] * (delta.ndim - 1)), candidate, self.delta)
            self.wrongness = torch.where(better, wrongness, self.wrongness)
            self.loss = torch.where(better, loss, self.loss)
