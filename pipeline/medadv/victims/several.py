"""Whom does an attack face, where a corpus has several victims? The one that it names, or all of them by the mean of their losses."""

from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import cached_property
from typing import Any

import torch
from torch import Tensor, nn

from medadv.attacks.diversity import Placings
from medadv.datasets.labels import Label
from medadv.spec.attack import AttackSettings
from medadv.spec.goal import Goal
from medadv.victims.victim import Aim, TaskModel, Victim


class MeanOfLosses:
    """Several models that are attacked as one: every loss term is the mean of theirs, sample by sample. Outputs and targets are tuples."""

    def __init__(self, aims: Sequence[Aim]) -> None:
        self.aims = tuple(aims)

    @cached_property
    def module(self) -> nn.Module:
        """All of them."""
        return nn.ModuleList([aim.module for aim in self.aims])

    def forward(self, images: Tensor) -> Any:
        """See `attacks.objective.Objective`, as for all that follow."""
        return tuple(aim.forward(images) for aim in self.aims)

    def split(self, outputs: Any, n: int) -> tuple[Any, Any]:
        pairs = [aim.split(own, n) for aim, own in zip(self.aims, outputs, strict=True)]
        return tuple(first for first, _ in pairs), tuple(rest for _, rest in pairs)

    def meet(self, outputs: Any, targets: Any, placings: Placings) -> tuple[Any, Any]:
        pairs = [aim.meet(own, truth, placings) for aim, own, truth in zip(self.aims, outputs, targets, strict=True)]
        return tuple(own for own, _ in pairs), tuple(truth for _, truth in pairs)

    def reference(self, outputs: Any) -> Any:
        return tuple(aim.reference(own) for aim, own in zip(self.aims, outputs, strict=True))

    def deviation(self, outputs: Any, targets: Any, settings: AttackSettings, progress: float = 0.0) -> Tensor:
        return self._mean(lambda at: self.aims[at].deviation(outputs[at], targets[at], settings, progress))

    def divergence(self, smoothed: Any, example: Any, settings: AttackSettings) -> Tensor:
        return self._mean(lambda at: self.aims[at].divergence(smoothed[at], example[at], settings))

    def standing(self, outputs: Any, targets: Any, settings: AttackSettings) -> tuple[Tensor, Tensor]:
        return self._means(lambda at: self.aims[at].standing(outputs[at], targets[at], settings))

    def seen(self, images: Tensor, targets: Any, settings: AttackSettings) -> tuple[Tensor, Tensor]:
        return self._means(lambda at: self.aims[at].seen(images, targets[at], settings))

    def aimed(self, outputs: Any, targets: Any, rank: int) -> Any:
        return tuple(aim.aimed(own, truth, rank) for aim, own, truth in zip(self.aims, outputs, targets, strict=True))

    def targets(self, labels: Sequence[Label], device: torch.device, goal: Goal = "untruth") -> Any:
        return tuple(aim.targets(labels, device, goal) for aim in self.aims)

    def _mean(self, term: Callable[[int], Tensor]) -> Tensor:
        return torch.stack([term(at) for at in range(len(self.aims))]).mean(0)

    def _means(self, terms: Callable[[int], tuple[Tensor, Tensor]]) -> tuple[Tensor, Tensor]:
        wrong, loss = zip(*(terms(at) for at in range(len(self.aims))), strict=True)
        # How wrong an answer is may be counted in whole numbers.
        return torch.stack([each.float() for each in wrong]).mean(0), torch.stack(loss).mean(0)


def against(victim: Victim, settings: AttackSettings) -> Victim:
    """Who judges an attack and what it differentiates: of one victim itself, of several as the attack says."""
    if settings.victim is None or not victim.named:
        return victim
    chosen = victim.named[settings.victim]
    if settings.combine is None:
        return chosen
    return replace(chosen, attacked=MeanOfLosses([each.attacked for each in victim.named.values()]))


def each_of(victim: Victim) -> list[Victim]:
    """All victims: of one itself."""
    return list(victim.named.values()) or [victim]


def facing(victim: Victim, settings: AttackSettings) -> list[TaskModel]:
    """Every model that an attack differentiates or is judged by."""
    if victim.named and settings.combine is not None:
        return [each.scored for each in victim.named.values()]
    return [against(victim, settings).scored]
