"""Which execution profile and batch size a new plan freezes: tried on real samples, once, before any attack counts."""

import statistics
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from medadv.answers import Label
from medadv.attacks.engine import perturb
from medadv.attacks.norms import start_seed
from medadv.datasets.read import stacked_regions
from medadv.inputs import Loaded
from medadv.spec.attack import AttackSettings
from medadv.victims.base import Victim
from medadv.victims.profiles import Profile, candidates
from medadv_transforms.units import LATTICES

STRENGTH = 0.01
"""How much success, or mean fp32 score, a faster profile may lose: one point."""
TIMED_STEPS = 2
ROUNDS = 3
PATIENCE_S = 20.0
"""After the first timed round no other begins later than this, so that whole volumes do not take an hour to plan."""

Make = Callable[[Profile], Victim]
Tell = Callable[[str], None]


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


def choose_profile(make: Make, exact: Profile, trial: Trial, tell: Tell) -> tuple[Profile, list[dict[str, Any]]]:
    """The fastest profile whose attacks are as strong as in fp32.

    Args:
        make: a fresh victim in a profile.
        exact: the fp32 profile that the others are held against.
        trial: on what.
        tell: receives a line for each profile that is dropped.

    Returns:
        The choice, and one record per profile: `profile`, `seconds_per_step`, `success` (of the first attack) and `verdict`.
    """
    base = make(exact)
    labels = trial.labels(base)
    seconds: dict[Profile, float] = {}
    records: dict[Profile, dict[str, Any]] = {}
    for profile in [exact, *(p for p in candidates(base.module, trial.device.type) if p != exact)]:
        records[profile] = {"profile": profile.name, "seconds_per_step": None, "success": None, "verdict": "slower"}
        try:
            seconds[profile] = trial.step_seconds(make(profile), labels)
            records[profile]["seconds_per_step"] = round(seconds[profile], 4)
        except Exception as error:  # any backend may fail in its own way; the others are still there
            reason = (str(error) or type(error).__name__).splitlines()[0][:200]
            records[profile]["verdict"] = f"failed: {reason}"
            tell(f"profile {profile.name} is left out: {reason}")
    chosen = exact
    reference = trial.strength(base, labels)
    for profile in sorted(seconds, key=lambda p: seconds[p]):
        found = reference if profile == exact else trial.strength(make(profile), labels)
        records[profile]["success"] = found[0][0]
        if all(s >= s0 - STRENGTH and score <= score0 + STRENGTH for (s, score), (s0, score0) in zip(found, reference, strict=True)):
            chosen = profile
            break
        records[profile]["verdict"] = "weaker"
        tell(f"profile {profile.name} is left out: its attacks are weaker by more than a point")
    records[chosen]["verdict"] = "chosen"
    records[exact]["success"] = reference[0][0]
    return chosen, list(records.values())


BASE_BYTES = 1 << 30
"""What a worker process holds before it attacks: torch, MONAI, decoded samples."""
SHARE = 0.6
"""Part of the rest that a batch may take: a shard's arrays and its HDF5 file need theirs."""
TRANSIENT = 1.5
"""Peak memory of a step over what it keeps for the way back: gradients and each layer's workspace."""


def largest_batch(victim: Victim, trial: Trial, shard_size: int, memory: int) -> int:
    """The largest divisor of the shard size whose attack step fits.

    On a CPU the bytes that one sample and two samples keep for the way back are counted, which gives the same answer on any machine, and
    held against `memory` (bytes per worker). On a GPU peak memory of both is measured, and held against what is free there.
    """
    one, two = (_step_bytes(victim, trial, count) for count in (1, 2))
    each, fixed = max(1, two - one), max(0, 2 * one - two)
    if trial.device.type == "cuda":
        free, _ = torch.cuda.mem_get_info()
        fits = int((free * SHARE - fixed) / each)
    else:
        fits = int(((memory - BASE_BYTES) * SHARE / TRANSIENT - fixed) / each)
    return max(size for size in range(1, shard_size + 1) if shard_size % size == 0 and size <= max(1, fits))


def _step_bytes(victim: Victim, trial: Trial, count: int) -> int:
    several = Trial([trial.loaded[0]] * count, trial.attacks, trial.seed, trial.device)
    labels = several.labels(victim)
    name, settings = max(trial.attacks.items(), key=lambda item: item[1].weight > 0)
    few = settings.model_copy(update={"steps": 1})
    if trial.device.type == "cuda":
        torch.cuda.reset_peak_memory_stats()
        several.attack(victim, name, few, labels)
        return int(torch.cuda.max_memory_allocated())
    kept: dict[int, int] = {}

    def pack(tensor: Tensor) -> Tensor:
        storage = tensor.untyped_storage()
        kept[storage.data_ptr()] = storage.nbytes()
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
        several.attack(victim, name, few, labels)
    return sum(kept.values())
