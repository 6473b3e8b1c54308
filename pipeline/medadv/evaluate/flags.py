"""What speaks against a robust figure? Signs that an attack was weak or the victim no fair target, each a number and, perhaps, a sentence.

After Carlini et al., On Evaluating Adversarial Robustness (arXiv 1902.06705), and the checks of AutoAttack (Croce and Hein, arXiv
2003.01690). They warn; they fail nothing.
"""

from collections.abc import Mapping, Sequence

import numpy as np
import torch
from pydantic import Field
from torch import Tensor

from medadv.attacks.cost import passes
from medadv.attacks.untouched import untouched
from medadv.batches.bench import AttackBench
from medadv.common.record import Closed
from medadv.datasets.labels import Array, Boxes, Prediction
from medadv.evidence.weak_signs import clamped_sign, zero_sign
from medadv.spec.attack import AttackSettings
from medadv.victims.victim import TaskModel

BLACK_BOX = frozenset({"square"})
"""Attacks that ask for no gradient."""
BEATEN_SHARE = 0.002
"""From this share of the samples on a find of a weaker attack counts; the tolerance that AutoAttack gives its Square attack."""
SAME_OUTPUTS = 1e-4
"""Two passes may differ by this share of the largest output: some kernels sum in the order in which threads finish."""
SUM_ROUNDING = 1e-3
"""A row of half-precision probabilities sums to 1 within this."""


class Flag(Closed):
    """One sign.  number: what was measured, null where it could not be.  sentence: null where it speaks against nothing."""

    name: str
    number: float | None
    sentence: str | None = Field(description="what to tell a reader")


def beaten_by_weaker(attacks: Mapping[str, AttackSettings], made_by: Sequence[str | None]) -> Flag:
    """Did an attack find what a stronger one before it did not? Then gradients may mislead the stronger one.

    attacks: name -> settings, in the order in which they were run.  made_by: per sample the attack whose perturbation was kept, the first
    that broke it, or the one of clearly the lowest score; None where none is kept.  number: share of the samples that a weaker attack made.
    Weaker than one before it is an attack without gradients after one with them, or one of fewer backward passes.
    """
    weaker = _weaker(attacks)
    finds = {name: made_by.count(name) for name in weaker}
    share = sum(finds.values()) / max(1, len(made_by))
    if share <= BEATEN_SHARE:
        return Flag(name="beaten_by_weaker", number=share, sentence=None)
    name = max(finds, key=lambda each: finds[each])
    kind = "asks for no gradient" if attacks[name].attack in BLACK_BOX else "asks for fewer gradients"
    sentence = (
        f"{name}, which {kind}, broke {finds[name]} of {len(made_by)} samples that {weaker[name]} before it could not: gradients may be "
        "masked."
    )
    return Flag(name="beaten_by_weaker", number=share, sentence=sentence)


def _weaker(attacks: Mapping[str, AttackSettings]) -> dict[str, str]:
    """Attacks that are weaker than one before them, and the strongest of those before."""
    found: dict[str, str] = {}
    before: dict[str, int] = {}
    for name, settings in attacks.items():
        gradients = 0 if settings.attack in BLACK_BOX else passes(settings)[1]
        if before and gradients < max(before.values()):
            found[name] = max(before, key=lambda each: before[each])
        before[name] = gradients
    return found


def passes_differ(judge: TaskModel, images: Tensor) -> Flag:
    """Does the victim answer the same batch twice alike? A random answer needs an attack on its expectation.

    images: (n, C, *spatial), stored units, on the victim's device.  number: share of the samples whose outputs or answers differ.
    """
    with untouched(judge.module), torch.no_grad():
        first = _answered(judge, images)
        # Each prediction leaves the generators as it found them, so that both would draw the same.
        torch.rand(1, device=images.device)
        second = _answered(judge, images)
    differs = [not _same(one, other) for one, other in zip(first[1], second[1], strict=True)]
    for one, other in zip(first[0], second[0], strict=True):
        if one.numel() and len(one) == len(images):
            apart = (one - other).abs().flatten(1).amax(1) > SAME_OUTPUTS * one.abs().max()
            differs = [before or now for before, now in zip(differs, apart.tolist(), strict=True)]
    share = sum(differs) / max(1, len(differs))
    sentence = (
        f"Two passes of the victim differ on {share:.0%} of the samples: its answers are random, and attacks have to average over them."
        if share
        else None
    )
    return Flag(name="passes_differ", number=share, sentence=sentence)


def _answered(judge: TaskModel, images: Tensor) -> tuple[list[Tensor], list[Prediction]]:
    return [each.double().cpu() for each in judge.tensors(judge.forward(images))], judge.predict(images)


def _same(one: Prediction, other: Prediction) -> bool:
    """Masks are held against each other by their outputs alone: a voxel on the boundary may turn by rounding."""
    pairs: list[tuple[Array | None, Array | None]] = [(one.probabilities, other.probabilities)]
    if isinstance(one.answer, Boxes) and isinstance(other.answer, Boxes):
        pairs += [(one.answer.boxes, other.answer.boxes), (one.answer.scores, other.answer.scores)]
    given = [(a, b) for a, b in pairs if a is not None and b is not None]
    return all(a.shape == b.shape and np.allclose(a, b, rtol=SAME_OUTPUTS, atol=SAME_OUTPUTS) for a, b in given)


def already_probabilities(logits: Array, head: str) -> Flag:
    """Does a network whose answers are read as logits answer probabilities? Then a second softmax flattens every gradient.

    logits: (n, K, ...), as the head takes them, after an activation that the spec declares was taken back.  number: share of the rows that
    lie in [0, 1] and, for softmax, sum to 1.
    """
    rows = np.moveaxis(logits, 1, -1).reshape(-1, logits.shape[1])
    inside: Array = np.asarray(((rows >= 0) & (rows <= 1)).all(1))
    if head == "softmax":
        inside &= np.abs(rows.sum(1) - 1) <= SUM_ROUNDING
    share = float(inside.mean()) if len(inside) else 0.0
    activation = "softmax" if head == "softmax" else "sigmoid"
    sentence = (
        f"The outputs are probabilities already, and are read as logits: say `activation: {activation}` of the victim, which takes it back."
        if share == 1
        else None
    )
    return Flag(name="already_probabilities", number=share, sentence=sentence)


def zero_gradients(bench: AttackBench, settings: AttackSettings) -> Flag:
    """Is there a gradient to follow?  number: share of voxels whose gradient on the clean image is exactly zero."""
    share = bench.zero_gradients(settings)
    return Flag(name="zero_gradients", number=share, sentence=zero_sign(share))


def clamped(bench: AttackBench) -> Flag:
    """Of a victim whose activation is taken back: are its probabilities 0 or 1?  number: their share; None where it answers logits."""
    share = bench.clamped()
    return Flag(name="clamped", number=share, sentence=clamped_sign(share))
