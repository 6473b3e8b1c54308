"""Attacks tried on a few samples: success under other settings, noise, other victims."""

from collections.abc import Callable, Sequence

import numpy as np
import torch
from torch import Tensor

from medadv.attacks.engine import perturb
from medadv.attacks.feasible import feasible_box, random_start
from medadv.attacks.untouched import untouched
from medadv.datasets.labels import Array, Label, Prediction
from medadv.spec.attack import AttackSettings
from medadv.victims.victim import Victim
from medadv_transforms.units import Lattice


class AttackBench:
    """The samples, and what the victim says about them undisturbed."""

    def __init__(
        self,
        victim: Victim,
        images: Array,
        labels: Sequence[Label],
        lattice: Lattice,
        seeds: Sequence[int],
        device: torch.device,
        regions: Array | None,
        spacing_mm: Sequence[float] | None,
        batch_size: int,
    ) -> None:
        self.victim, self.labels, self.lattice, self.seeds, self.spacing_mm = victim, labels, lattice, seeds, spacing_mm
        self.images = torch.from_numpy(images.astype(np.float32)).to(device)
        self.region = None if regions is None else torch.from_numpy((regions[:, None] != 0).astype(np.float32)).to(device)
        self.parts = [slice(start, start + batch_size) for start in range(0, len(images), batch_size)]
        self.clean: dict[int, list[Prediction]] = {}
        self.done = self.total = 0
        self.tick: Callable[[int, int], None] = lambda done, total: None

    def expect(self, total: int, tick: Callable[[int, int], None]) -> None:
        """How many attacks will be asked for, and whom to tell."""
        self.total, self.tick = total, tick

    def known(self, perturbations: Array) -> Tensor:
        """Perturbations that were made before."""
        self.done += 1
        return torch.from_numpy(perturbations.astype(np.float32)).to(self.images.device)

    def attack(self, settings: AttackSettings) -> Tensor:
        self.tick(self.done, self.total)
        self.done += 1
        return torch.cat([self._attack(part, settings) for part in self.parts])

    def _attack(self, part: slice, settings: AttackSettings) -> Tensor:
        return perturb(
            self.victim,
            self.images[part],
            self.victim.targets(self.labels[part], self.images.device),
            settings,
            lattice=self.lattice,
            seeds=self.seeds[part],
            region=None if self.region is None else self.region[part],
            spacing_mm=self.spacing_mm,
        )

    def noise(self, epsilon: float) -> Tensor:
        """Full-size random signs: the largest noise that the ball holds."""
        low, high = feasible_box(self.images, epsilon, self.lattice, self.region)
        drawn = torch.stack([random_start(self.images.shape[1:], 1e3, seed) for seed in self.seeds]).to(low)
        return torch.where(drawn < 0, low.ceil(), high.floor())

    def each(self, delta: Tensor, victim: Victim) -> Array:
        """Whether each sample's perturbation succeeds."""
        if id(victim) not in self.clean:
            self.clean[id(victim)] = self._predict(self.images, victim)
        answers = self._predict(self.images + delta, victim)
        return np.array([victim.succeeded(c, a, y) for c, a, y in zip(self.clean[id(victim)], answers, self.labels, strict=True)])

    def success(self, delta: Tensor, victim: Victim | None = None) -> float:
        """Share of the samples on which a perturbation succeeds."""
        return float(self.each(delta, victim or self.victim).mean())

    def worst(self, deltas: Sequence[Tensor]) -> float:
        """Share of the samples on which any of the attacks succeeds."""
        return float(np.any([self.each(delta, self.victim) for delta in deltas], axis=0).mean())

    def zero_gradients(self, settings: AttackSettings) -> float:
        """Share of voxels that may move whose gradient is exactly zero on the clean image."""
        zeros = movable = 0
        for part in self.parts:
            low, high = feasible_box(self.images[part], 1, self.lattice, None if self.region is None else self.region[part])
            with untouched(self.victim.module):
                x = self.images[part].clone().requires_grad_()
                targets = self.victim.targets(self.labels[part], x.device)
                (gradient,) = torch.autograd.grad(self.victim.deviation(self.victim.forward(x), targets, settings).sum(), x)
            free = high > low
            zeros += int(((gradient == 0) & free).sum())
            movable += int(free.sum())
        return zeros / max(1, movable)

    def _predict(self, images: Tensor, victim: Victim) -> list[Prediction]:
        return [answer for part in self.parts for answer in victim.predict(images[part])]
