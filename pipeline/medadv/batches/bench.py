"""Attacks tried on a few samples: success under other settings, noise, other victims."""

from collections.abc import Callable, Sequence

import numpy as np
import torch
from torch import Tensor

from medadv.attacks.feasible import feasible_box, random_start
from medadv.attacks.untouched import untouched
from medadv.batches.attacking import attacked_batch
from medadv.batches.batch import Batch, on_device
from medadv.batches.judging import successes
from medadv.datasets.labels import Array, Prediction
from medadv.spec.attack import AttackSettings
from medadv.spec.goal import Goal
from medadv.victims.inputs.normalized import Normalized
from medadv.victims.victim import TaskModel, Victim


class AttackBench:
    """The samples, and what the victim says about them undisturbed."""

    def __init__(self, victim: Victim, batch: Batch, seeds: Sequence[int], batch_size: int, starts: Array | None = None) -> None:
        """batch: on the victim's device.  seeds: one a sample.  batch_size: samples per pass.  starts: (n, C, *spatial), where every attack
        that is asked for begins."""
        self.victim, self.batch, self.seeds, self.batch_size, self.starts = victim, batch, seeds, batch_size, starts
        self.clean: dict[int, list[Prediction]] = {}
        self.done = self.total = 0
        self.tick: Callable[[int, int], None] = lambda done, total: None

    def expect(self, total: int, tick: Callable[[int, int], None]) -> None:
        """How many attacks will be asked for, and whom to tell."""
        self.total, self.tick = total, tick

    def known(self, perturbations: Array) -> Tensor:
        """Perturbations that were made before."""
        self.done += 1
        return torch.from_numpy(perturbations.astype(np.float32)).to(self.batch.images.device)

    def attack(self, settings: AttackSettings) -> Tensor:
        self.tick(self.done, self.total)
        self.done += 1
        deltas = []
        for part, first in zip(self.batch.cut(self.batch_size), range(0, len(self.batch), self.batch_size), strict=True):
            rows = slice(first, first + self.batch_size)
            start = None if self.starts is None else on_device(self.starts[rows], self.batch.images.device)
            deltas.append(attacked_batch(self.victim, part, settings, self.seeds[rows], start=start).delta)
        return torch.cat(deltas)

    def noise(self, epsilon: float) -> Tensor:
        """Full-size random signs: the largest noise that the ball holds."""
        low, high = feasible_box(self.batch.images, epsilon, self.batch.lattice, self.batch.region)
        drawn = torch.stack([random_start(self.batch.images.shape[1:], 1e3, seed) for seed in self.seeds]).to(low)
        return torch.where(drawn < 0, low.ceil(), high.floor())

    def each(self, delta: Tensor, judge: TaskModel, goal: Goal) -> Array:
        """Whether each sample's perturbation reaches the goal."""
        if id(judge) not in self.clean:
            self.clean[id(judge)] = self._predict(self.batch.images, judge)
        return successes(judge, self.clean[id(judge)], self._predict(self.batch.images + delta, judge), self.batch.labels, goal)

    def success(self, delta: Tensor, goal: Goal, judge: TaskModel | None = None) -> float:
        """Share of the samples on which a perturbation reaches the goal."""
        return float(self.each(delta, judge or self.victim.scored, goal).mean())

    def worst(self, deltas: Sequence[tuple[Tensor, Goal]]) -> float:
        """Share of the samples on which any of the attacks reaches its own goal."""
        return float(np.any([self.each(delta, self.victim.scored, goal) for delta, goal in deltas], axis=0).mean())

    def zero_gradients(self, settings: AttackSettings) -> float:
        """Share of voxels that may move whose gradient is exactly zero on the clean image."""
        zeros = movable = 0
        objective = self.victim.attacked
        if self.victim.scored.task == "detection":
            # `square` names a margin, and asks for no gradient: what could be followed is that of a detector's own loss.
            settings = settings.model_copy(update={"loss": "ce"})
        for part in self.batch.cut(self.batch_size):
            low, high = feasible_box(part.images, 1, part.lattice, part.region)
            with untouched(objective.module):
                x = part.images.clone().requires_grad_()
                targets = objective.targets(part.labels, x.device, settings.goal)
                (gradient,) = torch.autograd.grad(objective.deviation(objective.forward(x), targets, settings).sum(), x)
            free = high > low
            zeros += int(((gradient == 0) & free).sum())
            movable += int(free.sum())
        return zeros / max(1, movable)

    def clamped(self) -> float | None:
        """Share of the outputs that are probabilities of 0 or 1, on the clean images; None where the victim answers logits."""
        module = self.victim.scored.module
        if not isinstance(module, Normalized) or module.ending is None or module.ending.activation == "none":
            return None
        with untouched(module), torch.no_grad():
            shares = [float(module.ending.clamped(module.answers(part.images))) * len(part) for part in self.batch.cut(self.batch_size)]
        return sum(shares) / len(self.batch)

    def _predict(self, images: Tensor, judge: TaskModel) -> list[Prediction]:
        return [answer for part in images.split(self.batch_size) for answer in judge.predict(part)]
