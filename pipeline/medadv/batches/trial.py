"""Attacks timed and measured on one batch, before a plan is frozen."""

import statistics
import time
from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

from medadv.batches.attacking import attacked_batch, start_seeds
from medadv.batches.batch import Batch
from medadv.batches.judging import scores, successes
from medadv.spec.attack import AttackSettings
from medadv.victims.several import against
from medadv.victims.victim import Victim

TIMED_STEPS = 2
ROUNDS = 3
PATIENCE_S = 20.0
"""After the first timed round no other begins later than this, so that whole volumes do not take an hour to plan."""


@dataclass(frozen=True)
class Trial:
    """The batch that profiles are tried on, on the victim's device."""

    batch: Batch
    attacks: Mapping[str, AttackSettings]
    seed: int

    def attack(self, victim: Victim, name: str, settings: AttackSettings) -> Tensor:
        """Perturbation of the batch; instead of what would be fitted to many others, what costs the same."""
        return attacked_batch(victim, self.batch, settings.alone, start_seeds(self.seed, self.batch.ids, name)).delta

    def step_seconds(self, victim: Victim) -> float:
        """Median time of one step of the attack whose steps cost most, the first round left out."""
        name, settings = max(self._single(), key=lambda item: item[1].weight > 0)
        steps = 1 if settings.attack == "fgsm" else min(TIMED_STEPS, settings.steps)
        few = settings.model_copy(update={"steps": steps})
        times: list[float] = []
        began = time.perf_counter()
        while len(times) < 2 or (len(times) <= ROUNDS and time.perf_counter() - began < PATIENCE_S):
            started = time.perf_counter()
            self.attack(victim, name, few)
            if self.batch.images.device.type == "cuda":
                torch.cuda.synchronize()
            times.append((time.perf_counter() - started) / steps)
        return statistics.median(times[1:])

    def _single(self) -> list[tuple[str, AttackSettings]]:
        """The attacks from starts of their own; of an ensemble its first member, which is tried on every sample."""
        kept = {name: {"start": None, "victim": settings.victim} for name, settings in self.attacks.items()}
        return [(name, settings.each[0].model_copy(update=kept[name])) for name, settings in self.attacks.items()]

    def strength(self, victim: Victim) -> list[tuple[float, float]]:
        """Per attack: share of successes and mean score of the adversarial examples, by fp32 inference."""
        labels = self.batch.labels
        found = []
        for name, settings in self._single():
            judge = against(victim, settings).scored
            clean = judge.predict(self.batch.images)
            after = judge.predict(self.batch.images + self.attack(victim, name, settings))
            success = successes(judge, clean, after, labels, settings.goal)
            found.append((float(success.mean()), float(scores(judge, after, labels).mean())))
        return found
