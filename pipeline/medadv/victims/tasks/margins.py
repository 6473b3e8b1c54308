"""How far is the truth ahead of the other answers? Margins of logits, as losses: above 0 the answer is wrong, larger is worse.

`dlr` is the difference of logits ratio of Croce and Hein 2020 (arXiv 2003.01690, equations 6 and 8): a margin in units of the distance
between the first and the third logit, so that no scale of the logits hides its gradient. It needs three classes, its targeted form four.
"""

from dataclasses import dataclass

import torch
from torch import Tensor

from medadv.spec.attack import AttackSettings

TINY = 1e-12
"""Keeps the ratio of equal logits finite."""
NEEDED, NEEDED_TARGETED = 3, 4
"""Classes from which on there is a difference of logits ratio."""


@dataclass(frozen=True, eq=False)
class Aimed:
    """The truth of a batch, and the wrong class that each sample is driven towards.  truth, wanted: (n,) int64."""

    truth: Tensor
    wanted: Tensor


def has_ratio(classes: int, head: str, targeted: bool) -> bool:
    """Whether a head has a difference of logits ratio; `margin` stands in for it where not."""
    return head == "softmax" and classes >= (NEEDED_TARGETED if targeted else NEEDED)


def margin(logits: Tensor, truth: Tensor) -> Tensor:
    """The highest other logit less that of the truth: logits (n, K, ...), truth (n, ...) int64 -> (n, ...)."""
    place = truth.unsqueeze(1)
    return logits.scatter(1, place, -torch.inf).amax(1) - logits.gather(1, place).squeeze(1)


def targeted_margin(logits: Tensor, aim: Aimed) -> Tensor:
    """The wanted class's logit less that of the truth: (n, K) -> (n,)."""
    truth, wanted = (logits.gather(1, classes.unsqueeze(1)).squeeze(1) for classes in (aim.truth, aim.wanted))
    return wanted - truth


def dlr(logits: Tensor, truth: Tensor) -> Tensor:
    """(n, K) -> (n,), in units of the distance from the first logit to the third."""
    ranked = logits.topk(3, 1).values
    return margin(logits, truth) / (ranked[:, 0] - ranked[:, 2] + TINY)


def targeted_dlr(logits: Tensor, aim: Aimed) -> Tensor:
    """(n, K) -> (n,), in units of the distance from the first logit to the mean of the third and fourth."""
    ranked = logits.topk(4, 1).values
    return targeted_margin(logits, aim) / (ranked[:, 0] - (ranked[:, 2] + ranked[:, 3]) / 2 + TINY)


def label_margin(logits: Tensor, truth: Tensor) -> Tensor:
    """Of labels that are answered one by one: how far each logit lies on the wrong side of 0.  truth: 0 or 1; the same shape throughout."""
    return (1 - 2 * truth) * logits


def ranked_wrong(logits: Tensor, truth: Tensor, rank: int) -> Tensor:
    """The wrong class that is answered likeliest (rank 0), or the next ones: logits (n, K), truth (n,) int64 -> (n,) int64."""
    return logits.scatter(1, truth.unsqueeze(1), -torch.inf).topk(rank + 1, 1).indices[:, rank]


def refuse_losses(settings: AttackSettings, names: tuple[str, ...], instead: str) -> None:
    """Raise ValueError where an attack asks for one of these losses and the victim has none such.  instead: what to do."""
    if settings.loss in names:
        raise ValueError(f"loss={settings.loss}: {instead}")
