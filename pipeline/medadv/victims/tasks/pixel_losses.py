"""What does each voxel of a mask add to the loss? Cross-entropy, and what the attacks on segmenters make of it.

The truth of a voxel has probability p: of its class for a softmax head. Each label of a sigmoid head is a decision between two classes,
with logits 0 and z, so that p is the sigmoid of z or of -z.

- `ce`: -log p.
- `margin`: the highest other logit less the truth's, or how far a label's logit lies on the wrong side of 0.
- `segpgd`: the same, times 1 - t / 2 where the answer is right and t / 2 where it is wrong; t is the share of the steps that are done.
  SegPGD, Gu, Zhao, Tresp, Torr 2022 (arXiv 2207.12391); SEA's balanced cross-entropy.
- `cospgd`: the same, times the cosine between the probabilities of all classes and the truth as one-hot, taken for a constant. CosPGD,
  Agnihotri, Jung, Keuper 2024 (arXiv 2302.02213), without a target.
- `masked_ce`: where the answer is right, and nothing elsewhere.
- `js`: Jensen-Shannon divergence between the probabilities and the truth as one-hot.
- `masked_spherical`: where the answer is right, the truth's logit over the norm of all logits, negated. A label's one logit has no
  direction: for sigmoid heads it is how far that logit is from the decision, negated.

The last three, with `segpgd`, are those of SEA: Croce, Singh, Hein 2023 (arXiv 2306.12941).
"""

import math
from collections.abc import Callable

import torch
from torch import Tensor
from torch.nn import functional

from medadv.victims.tasks.margins import label_margin, margin
from medadv_transforms.mask_pictures import IGNORE

VoxelLoss = Callable[[Tensor, Tensor], Tensor]
"""Logits (n, K, *spatial) and truth (n, *spatial), or (n, K, *spatial) for sigmoid heads, to values in the truth's shape."""


def voxel_loss(name: str, head: str, progress: float = 0.0, *, towards: bool = False) -> VoxelLoss:
    """The loss of each voxel by its name in `AttackSettings.loss`; zero where the mask says ignore, and larger farther from the truth.

    head: softmax or sigmoid.  progress: share of the steps that are done, in [0, 1].  towards: whether the attack lowers the loss, the mask
    being what it wants; then each weight w is 1 - w, so that what is not there yet counts, as in the published attacks with a target.
    """
    values, weight = LOSSES.get(name, (cross_entropy, None))
    if weight is None:
        return lambda outputs, targets: values(outputs, targets, head)

    def weighted(outputs: Tensor, targets: Tensor) -> Tensor:
        weights = weight(outputs.detach(), targets, head, progress)
        return (1 - weights if towards else weights) * values(outputs, targets, head)

    return weighted


def cross_entropy(outputs: Tensor, targets: Tensor, head: str) -> Tensor:
    """Per voxel, and per label for sigmoid heads."""
    if head == "softmax":
        return functional.cross_entropy(outputs, targets.long(), reduction="none", ignore_index=IGNORE)
    valid = targets != IGNORE
    truth = torch.where(valid, targets, 0).to(outputs)
    return functional.binary_cross_entropy_with_logits(outputs, truth, reduction="none") * valid


def _margin(outputs: Tensor, targets: Tensor, head: str) -> Tensor:
    valid = targets != IGNORE
    truth = torch.where(valid, targets, 0)
    return (margin(outputs, truth.long()) if head == "softmax" else label_margin(outputs, truth.to(outputs))) * valid


def _js(outputs: Tensor, targets: Tensor, head: str) -> Tensor:
    # With a one-hot truth nothing but p is left of both divergences from their mean: log 2 + (p log p - (1 + p) log(1 + p)) / 2.
    if head == "softmax":
        log_p = _of_truth(outputs.log_softmax(1), targets)
    else:
        log_p = functional.logsigmoid(torch.where(targets == 1, outputs, -outputs))
    p = log_p.exp()
    return (math.log(2) + (p * log_p - (1 + p) * torch.log1p(p)) / 2) * (targets != IGNORE)


def _spherical(outputs: Tensor, targets: Tensor, head: str) -> Tensor:
    if head == "softmax":
        return -_of_truth(functional.normalize(outputs, dim=1), targets) * (targets != IGNORE)
    return torch.where(targets == 1, -outputs, outputs) * (targets != IGNORE)


def _where_right(outputs: Tensor, targets: Tensor, head: str, progress: float = 0.0) -> Tensor:
    right = outputs.argmax(1) == targets if head == "softmax" else (outputs > 0).to(targets) == targets
    return right.to(outputs)


def _balanced(outputs: Tensor, targets: Tensor, head: str, progress: float) -> Tensor:
    of_wrong = progress / 2
    return _where_right(outputs, targets, head) * (1 - 2 * of_wrong) + of_wrong


def _cosine(outputs: Tensor, targets: Tensor, head: str, progress: float) -> Tensor:
    """The truth is one-hot and has norm 1, so that the cosine is p over the norm of all probabilities."""
    if head == "softmax":
        probabilities = outputs.softmax(1)
        return _of_truth(probabilities, targets) / probabilities.norm(dim=1)
    p, other = outputs.sigmoid(), (-outputs).sigmoid()
    return torch.where(targets == 1, p, other) / torch.hypot(p, other)


def _of_truth(values: Tensor, targets: Tensor) -> Tensor:
    """Of (n, K, *spatial) those of the true class, (n, *spatial); of class 0 where the mask says ignore."""
    indices = torch.where(targets != IGNORE, targets, 0).long()
    return values.gather(1, indices.unsqueeze(1)).squeeze(1)


Values = Callable[[Tensor, Tensor, str], Tensor]
Weight = Callable[[Tensor, Tensor, str, float], Tensor]

LOSSES: dict[str, tuple[Values, Weight | None]] = {
    "margin": (_margin, None),
    "segpgd": (cross_entropy, _balanced),
    "cospgd": (cross_entropy, _cosine),
    "masked_ce": (cross_entropy, _where_right),
    "js": (_js, None),
    "masked_spherical": (_spherical, _where_right),
}
"""Values of logits, truth and head; and by what each is multiplied, of detached logits, truth, head and progress."""
