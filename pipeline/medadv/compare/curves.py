"""How an attack moves, step by step: both loss terms, the divergence between example and smoothed example, and flips."""

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from medadv.attacks.smoothing import axis_kernels, smooth
from medadv.attacks.untouched import untouched
from medadv.batches.batch import Batch
from medadv.batches.judging import attackable, successes
from medadv.compare.table import Bench
from medadv.spec.attack import AttackSettings

REFERENCE = AttackSettings(attack="smia", epsilon=1, step=1, weight=1, sigma=1.0, kernel_size=3)
"""The smoothing and divergence that every attack is judged by, whatever its own settings: soft target, smoothed perturbation."""


@dataclass(frozen=True)
class Curve:
    """Means over samples, one value per iterate, from the start to the end: steps + 1 of them."""

    attack: str
    deviation: list[float]
    divergence: list[float]
    flipped: list[float | None]
    """Of the samples that could be attacked; None without any."""


def curve(bench: Bench, name: str, settings: AttackSettings) -> Curve:
    """Follow an attack on every batch of the bench."""
    sums = np.sum([_of_batch(bench, batch, name, settings) for batch in bench.batches], axis=0)
    samples, able = sum(len(batch.labels) for batch in bench.batches), int(bench.attackable(settings.goal).sum())
    flipped = [float(count) / able if able else None for count in sums[:, 2]]
    return Curve(name, (sums[:, 0] / samples).tolist(), (sums[:, 1] / samples).tolist(), flipped)


def _of_batch(bench: Bench, batch: Batch, name: str, settings: AttackSettings) -> np.ndarray[tuple[int, int], np.dtype[np.float64]]:
    """Sums over the batch's samples, a row an iterate; flips among those that could be attacked."""
    iterates: list[Tensor] = []

    def keep(_: int, delta: Tensor, __: Tensor, ___: Tensor | None) -> None:
        iterates.append(delta.clone())

    final = bench.attack_batch(batch, name, settings, watch=keep)
    judge = bench.victim.scored
    clean = judge.predict(batch.images)
    able = attackable(judge, clean, batch.labels, settings.goal)
    rows = []
    for delta in [*iterates, final.to(batch.images)]:
        deviation, divergence = _terms(bench, batch, delta, settings)
        answers = judge.predict(batch.images + delta.round())
        flips = successes(judge, clean, answers, batch.labels, settings.goal) & able
        rows.append([float(deviation.sum()), float(divergence.sum()), float(flips.sum())])
    return np.array(rows)


def _terms(bench: Bench, batch: Batch, delta: Tensor, settings: AttackSettings) -> tuple[Tensor, Tensor]:
    victim, images = bench.victim.attacked, batch.images
    kernels = axis_kernels(REFERENCE.sigma, REFERENCE.kernel_size, None, images.ndim - 2)
    with untouched(victim.module), torch.no_grad():
        example = victim.forward(images + delta)
        smoothed = victim.forward((images + smooth(delta, kernels)).clamp(batch.lattice.low, batch.lattice.high))
        targets = victim.targets(batch.labels, images.device, settings.goal)
        # One loss for all attacks, whatever each ascends.
        return victim.standing(example, targets, settings)[1], victim.divergence(smoothed, example, REFERENCE)
