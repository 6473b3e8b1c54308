"""Which of several attacks is the worst for each sample? An ensemble's members in order, of which the worst answer is kept.

After AutoAttack (Croce and Hein 2020, arXiv 2003.01690): a classifier's sample that is broken leaves its place in the batch empty, and once
all places are, the batch is done. Of masks and boxes, which are never wholly wrong, every member attacks every sample. Boxes that are as
wrong on their image may be told apart by false confidence, since what is reported is the average precision over all images.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from medadv.attacks.feasible import feasible_box, to_integers
from medadv.batches.batch import Batch
from medadv.common.hashing import seed_of
from medadv.datasets.labels import Array, Boxes, Label, Prediction
from medadv.scoring.attackable import labels_right
from medadv.scoring.boxes import false_confidence, false_margin
from medadv.spec.attack import AttackSettings
from medadv.victims.victim import TaskModel

NOBODY, START = 255, 254
"""Who made a perturbation that no member made: none was needed or none was worse, or it is where all members started."""
UNTRIED = -1.0
"""Score of a sample that a member was not let loose on. Not NaN, which equals nothing, not even what is read back."""

TIES = {"confident": false_confidence, "margin": false_margin}
"""What tells boxes apart that are as wrong on their image: the higher, the more they cost over all images."""

Attack = Callable[[Batch, AttackSettings, Sequence[int], Tensor | None], Tensor]
"""Perturbations of a batch from settings, seeds and a start, as the engine gives them."""


@dataclass(frozen=True, eq=False)
class Worst:
    """delta: (n, C, *spatial) int16.  made_by: (n,) uint8, number of the member, `START` or `NOBODY`.  member_score: (n, members) float64,
    how right the answer is after each member, `UNTRIED` where it was not let loose."""

    delta: Tensor
    made_by: Array
    member_score: Array


def worst_of(
    judge: TaskModel, batch: Batch, settings: AttackSettings, seeds: Sequence[int], start: Tensor | None, attack: Attack
) -> Worst:
    """Let the members of an ensemble loose on a batch.

    judge: who says what is worst, by the same answers in the same batch as what is stored will be scored.  batch: on its device.
    seeds: one a sample.  start: (n, C, *spatial), where the members begin, itself the first candidate; what of it lies outside the
    ensemble's bounds is brought inside.  attack: carries out a member.
    """
    found, members = _Kept(judge, batch, settings), settings.members or ()
    member_score = np.full((len(batch), len(members)), UNTRIED)
    if start is not None:
        start = to_integers(start, *feasible_box(batch.images, settings.epsilon, batch.lattice, batch.region))
        found.offer(start, START)
    for number, member in enumerate(members):
        rows = found.alive()
        if not rows:
            break
        chosen = batch if len(rows) == len(batch) else batch.chosen(rows)
        drawn = [seed_of("member", seeds[row], number) for row in rows]
        # Equal members that began alike would end alike.
        begins_alone = settings.starts == "own" and member in members[:number]
        begin = None if start is None or begins_alone else start[rows]
        moved = found.delta.clone()
        moved[rows] = attack(chosen, member, drawn, begin)
        member_score[rows, number] = found.offer(moved, number)[rows]
    return Worst(found.delta, found.made_by, member_score)


class _Kept:
    """The worst so far of every sample."""

    def __init__(self, judge: TaskModel, batch: Batch, settings: AttackSettings) -> None:
        self.judge, self.batch, self.settings = judge, batch, settings
        self.delta = torch.zeros(batch.images.shape, dtype=torch.int16, device=batch.images.device)
        self.made_by = np.full(len(batch), NOBODY, np.uint8)
        self.broken, _, self.rank = self._looked_at(self.delta)

    def offer(self, delta: Tensor, number: int) -> Array:
        """Another candidate for every sample; returns how right the answers to it are."""
        broken, score, rank = self._looked_at(delta)
        worse = np.array([new < old for new, old in zip(rank, self.rank, strict=True)], bool)
        if self.judge.task == "classification":
            # A broken sample stays as it was broken: who found it is part of the record.
            worse = ~self.broken & (broken | worse)
        rows = torch.from_numpy(worse).to(delta.device)
        self.delta[rows] = delta[rows].to(torch.int16)
        self.made_by[worse] = number
        self.broken |= broken
        self.rank = [new if now else old for new, old, now in zip(rank, self.rank, worse, strict=True)]
        return score

    def alive(self) -> list[int]:
        """Rows that are worth another attack."""
        if self.judge.task != "classification":
            return list(range(len(self.batch)))
        return np.flatnonzero(~self.broken).tolist()

    def _looked_at(self, delta: Tensor) -> tuple[Array, Array, list[tuple[float, float]]]:
        """Who is broken, how right each answer is, and what is the lower the worse it is."""
        answers = self.judge.predict(self.batch.images + delta)
        pairs = list(zip(answers, self.batch.labels, strict=True))
        scores = [self.judge.score(answer, label) for answer, label in pairs]
        return (
            np.array([not self.judge.vulnerable(answer, label) for answer, label in pairs], bool),
            np.array(scores, np.float64),
            [self._rank(answer, label, score) for (answer, label), score in zip(pairs, scores, strict=True)],
        )

    def _rank(self, answer: Prediction, truth: Label, score: float) -> tuple[float, float]:
        """What is the lower the worse: the score, or what is asked for before or after it."""
        if self.settings.rank == "labels":
            return labels_right(answer.answer, truth), score
        if self.settings.ties != "first" and isinstance(answer.answer, Boxes) and isinstance(truth, Boxes):
            return score, -TIES[self.settings.ties](answer.answer, truth)
        return score, 0.0
