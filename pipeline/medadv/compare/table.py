"""Run attacks on a set of samples and measure every column of the table."""

from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from monai.metrics.regression import SSIMMetric
from torch import Tensor

from medadv.attacks.cost import passes
from medadv.attacks.engine import Watch
from medadv.attacks.universal import laid_on
from medadv.batches.attacking import attacked_batch, start_seeds
from medadv.batches.batch import Batch
from medadv.batches.judging import attackable, successes
from medadv.compare.degrade import degradations
from medadv.compare.scores import Scores
from medadv.datasets.labels import Array, Prediction
from medadv.scoring.intervals import Interval, mean_interval
from medadv.spec.attack import AttackSettings, in_order
from medadv.spec.goal import Goal
from medadv.victims.victim import TaskModel, Victim

SSIM_WINDOW = 11
SECOND = "second_victim"


@dataclass
class Row:
    """One attack's line of the table; `clean` is a line too, without perturbation."""

    attack: str
    settings: AttackSettings | None
    passes: tuple[int, int]
    """Forward and backward passes of the victim per sample."""
    scores: dict[str, Scores] = field(default_factory=dict)
    metrics: dict[str, Interval] = field(default_factory=dict)
    """By condition: the headline metric; lower is a stronger attack."""
    further: dict[str, float] = field(default_factory=dict)
    attackable: int | None = None
    """How many samples success is counted over."""
    sizes: dict[str, Interval | None] = field(default_factory=dict)
    """success (of the samples that could be attacked; None without any), linf, l2 (stored units), ssim, cosine and variance (stored units
    squared) between random starts."""


class Bench:
    """A victim, perhaps a second one, and the samples that every attack is measured on."""

    def __init__(
        self,
        victim: Victim,
        second: TaskModel | None,
        batches: Sequence[Batch],
        seed: int = 0,
        shared: Mapping[str, Tensor] | None = None,
        groups: Mapping[str, Hashable] | None = None,
    ) -> None:
        """shared: by universal attack, the perturbation (C, *spatial) that every sample is given.

        groups: by sample id, what intervals are over, such as the patient; left out, each sample is a group of its own.
        """
        self.victim, self.second, self.batches, self.seed = victim, second, list(batches), seed
        self.lattice = self.batches[0].lattice
        self.labels = [label for batch in self.batches for label in batch.labels]
        self.groups = [name if groups is None else groups[name] for batch in self.batches for name in batch.ids]
        self.conditions = degradations(self.lattice)
        self.clean = self.answers(self._unchanged(), "as_is")
        self.shared = shared or {}
        self.made: dict[str, list[Tensor]] = {}
        """Perturbations of attacks that others start from."""

    def attackable(self, goal: Goal = "untruth") -> Array:
        """Which samples leave an attack of that goal something to do, (n,) bool."""
        return attackable(self.victim.scored, self.clean, self.labels, goal)

    def attack(self, name: str, settings: AttackSettings, restart: int = 0, watch: Watch | None = None) -> list[Tensor]:
        """Perturbations of every batch, int16, from the random start number `restart`, or from where another attack ended."""
        starts = self.made[settings.follows] if settings.follows else [None] * len(self.batches)
        return [
            self.attack_batch(batch, name, settings, restart, watch, start) for batch, start in zip(self.batches, starts, strict=True)
        ]

    def attack_batch(
        self,
        batch: Batch,
        name: str,
        settings: AttackSettings,
        restart: int = 0,
        watch: Watch | None = None,
        start: Tensor | None = None,
    ) -> Tensor:
        """Perturbation of one batch."""
        if settings.fit is not None:
            return laid_on(self.shared[name], batch.images, settings, batch.lattice, batch.region)
        return attacked_batch(self.victim, batch, settings, start_seeds(self.seed, batch.ids, name, restart), watch, start).delta

    def answers(self, deltas: Sequence[Tensor], condition: str) -> list[Prediction]:
        """What a victim says to the perturbed samples under one condition."""
        judge = self._judge(condition)
        degrade = self.conditions["as_is" if condition == SECOND else condition]
        found: list[Prediction] = []
        for batch, delta in zip(self.batches, deltas, strict=True):
            found += judge.predict(degrade(batch.images + delta))
        return found

    def row(self, name: str, settings: AttackSettings | None) -> Row:
        """Every column of one attack; None measures the clean samples."""
        if settings is None:
            row, deltas = Row(name, None, (0, 0)), self._unchanged()
        else:
            row, deltas = Row(name, settings, passes(settings)), self.attack(name, settings)
        for condition in [*self.conditions, *([SECOND] if self.second else [])]:
            judge = self._judge(condition)
            answers = self.answers(deltas, condition)
            row.scores[condition] = Scores(judge, answers, self.labels, self.groups)
            row.metrics[condition] = row.scores[condition].interval()
            if condition == "as_is":
                row.further = row.scores[condition].further(judge)
                if settings is not None:
                    success = successes(judge, self.clean, answers, self.labels, settings.goal).astype(float)
                    able = np.flatnonzero(self.attackable(settings.goal))
                    row.attackable = len(able)
                    row.sizes["success"] = mean_interval(success[able], [self.groups[row] for row in able]) if len(able) else None
        if settings is not None:
            row.sizes |= self._sizes(deltas) | self._starts(name, settings, deltas)
            self.made[name] = deltas
        return row

    def _judge(self, condition: str) -> TaskModel:
        return self.second if condition == SECOND and self.second else self.victim.scored

    def _unchanged(self) -> list[Tensor]:
        return [torch.zeros_like(batch.images) for batch in self.batches]

    def _sizes(self, deltas: Sequence[Tensor]) -> dict[str, Interval]:
        flat = [delta.flatten(1).double() for delta in deltas]
        ssim = []
        for batch, delta in zip(self.batches, deltas, strict=True):
            shortest = min(batch.images.shape[2:])
            window = min(SSIM_WINDOW, shortest - (shortest + 1) % 2)
            metric = SSIMMetric(batch.images.ndim - 2, data_range=float(self.lattice.high - self.lattice.low), win_size=window)
            ssim.append(metric(batch.images, batch.images + delta).flatten(1).mean(1).cpu().numpy())
        return {
            "linf": mean_interval(torch.cat([d.abs().amax(1) for d in flat]).cpu().numpy(), self.groups),
            "l2": mean_interval(torch.cat([d.norm(dim=1) for d in flat]).cpu().numpy(), self.groups),
            "ssim": mean_interval(np.concatenate(ssim).astype(float), self.groups),
        }

    def _starts(self, name: str, settings: AttackSettings, deltas: Sequence[Tensor]) -> dict[str, Interval | None]:
        """Two random starts of every attack, also of one that has none by itself: else it would look stable for want of a test.

        None of ensembles, of attacks that start where another one ended, and of what all samples share.
        """
        if settings.members or settings.start or settings.fit:
            return {"cosine": None, "variance": None}
        started = settings.model_copy(update={"random_start": True})
        first = deltas if settings.random_start else self.attack(name, started, 0)
        second = self.attack(name, started, 1)
        cosines: list[Array] = []
        variances: list[Array] = []
        for a, b in zip(first, second, strict=True):
            x, y = a.flatten(1).double(), b.flatten(1).double()
            cosines.append(torch.nn.functional.cosine_similarity(x, y).cpu().numpy())
            variances.append(((x - y) ** 2 / 2).mean(1).cpu().numpy())
        found = {"cosine": np.concatenate(cosines), "variance": np.concatenate(variances)}
        return {key: mean_interval(values, self.groups) for key, values in found.items()}


def table(bench: Bench, attacks: Mapping[str, AttackSettings], tell: Any = None) -> list[Row]:
    """The clean samples, then every attack."""
    rows: dict[str, Row] = {}
    for name in ("clean", *in_order(attacks)):
        rows[name] = bench.row(name, attacks.get(name))
        if not any(settings.follows == name for settings in attacks.values()):
            # Whole perturbations of every sample; they are kept for those alone that start from them.
            bench.made.pop(name, None)
        if tell is not None:
            tell(name, len(rows), len(attacks) + 1)
    return [rows[name] for name in ("clean", *attacks)]
