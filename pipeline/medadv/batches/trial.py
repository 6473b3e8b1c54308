"""Attacks timed and measured on one batch, before a plan is frozen."""

import statistics
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from medadv.attacks.engine import perturb
from medadv.attacks.feasible import start_seed
from medadv.batches.loading import Loaded
from medadv.datasets.labels import Label
from medadv.datasets.sample import stacked_regions
from medadv.spec.attack import AttackSettings
from medadv.victims.victim import Victim
from medadv_transforms.units import LATTICES

TIMED_STEPS = 2
ROUNDS = 3
PATIENCE_S = 20.0
"""After the first timed round no other begins later than this, so that whole volumes do not take an hour to plan."""


@dataclass(frozen=True)
class Trial:
    """The samples that profiles are tried on, as a planned batch."""

    loaded: Sequence[Loaded]
    attacks: Mapping[str, AttackSettings]
    seed: int
    device: torch.device

    def labels(self, victim: Victim) -> list[Label]:
        """The given truths, or the victim's own answers."""
        own = victim.predict(self.images())
        return [victim.own_label(p) if item.label is None else item.label for item, p in zip(self.loaded, own, strict=True)]

    def images(self) -> Tensor:
        """(n, C, *spatial) in stored units."""
        return torch.from_numpy(np.stack([item.sample.image for item in self.loaded])).to(self.device, torch.float32)

    def attack(self, victim: Victim, name: str, settings: AttackSettings, labels: Sequence[Label]) -> Tensor:
        """Perturbation of the batch."""
        sample = self.loaded[0].sample
        regions = stacked_regions([item.sample for item in self.loaded])
        return perturb(
            victim,
            self.images(),
            victim.targets(labels, self.device),
            settings,
            lattice=LATTICES[sample.unit],
            seeds=[start_seed(self.seed, item.planned.id, name) for item in self.loaded],
            region=None if regions is None else torch.from_numpy(regions).to(self.device, torch.float32),
            spacing_mm=sample.spacing_mm,
        )

    def step_seconds(self, victim: Victim, labels: Sequence[Label]) -> float:
        """Median time of one step of the attack whose steps cost most, the first round left out."""
        name, settings = max(self.attacks.items(), key=lambda item: item[1].weight > 0)
        steps = 1 if settings.attack == "fgsm" else min(TIMED_STEPS, settings.steps)
        few = settings.model_copy(update={"steps": steps})
        times: list[float] = []
        began = time.perf_counter()
        while len(times) < 2 or (len(times) <= ROUNDS and time.perf_counter() - began < PATIENCE_S):
            started = time.perf_counter()
            self.attack(victim, name, few, labels)
            if self.device.type == "cuda":
                torch.cuda.synchronize()
            times.append((time.perf_counter() - started) / steps)
        return statistics.median(times[1:])

    def strength(self, victim: Victim, labels: Sequence[Label]) -> list[tuple[float, float]]:
        """Per attack: share of successes and mean score of the adversarial examples, by fp32 inference."""
        images = self.images()
        clean = victim.predict(images)
        found = []
        for name, settings in self.attacks.items():
            after = victim.predict(images + self.attack(victim, name, settings, labels))
            success = np.mean([victim.succeeded(c, a, y) for c, a, y in zip(clean, after, labels, strict=True)])
            found.append((float(success), float(np.mean([victim.score(a, y) for a, y in zip(after, labels, strict=True)]))))
        return found
