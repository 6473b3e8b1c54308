"""Kullback-Leibler divergences between predictions, per element; zero where both agree."""

from collections.abc import Callable

from torch import Tensor
from torch.nn import functional
from torch.utils.checkpoint import checkpoint

SLAB_VALUES = 1 << 22
"""Logits from which on voxel-wise losses are summed slab by slab: their intermediate results would outgrow the volume several times."""


def voxel_sum(function: Callable[..., Tensor], *tensors: Tensor, axis: int = -1) -> Tensor:
    """Sum of `function(*tensors)` over everything but the batch, (n,), where the function works voxel by voxel.

    Large inputs go through in slabs along `axis`, each of which is computed again on the way back instead of being kept.
    """
    length = tensors[0].shape[axis]
    slabs = min(length, -(-tensors[0].numel() // SLAB_VALUES))
    if slabs == 1:
        return function(*tensors).flatten(1).sum(1)
    parts = zip(*(t.split(-(-length // slabs), axis) for t in tensors), strict=True)
    sums = [checkpoint(lambda *p: function(*p).flatten(1).sum(1), *part, use_reentrant=False, preserve_rng_state=False) for part in parts]
    total: Tensor = sum(sums[1:], start=sums[0])
    return total


def softmax_kl(p_logits: Tensor, q_logits: Tensor) -> Tensor:
    """KL(softmax p || softmax q) along axis 1: (n, K, ...) -> (n, ...)."""
    p, q = functional.log_softmax(p_logits, 1), functional.log_softmax(q_logits, 1)
    return (p.exp() * (p - q)).sum(1)


def bernoulli_kl(p_logits: Tensor, q_logits: Tensor) -> Tensor:
    """KL(Bernoulli p || Bernoulli q) of each logit, same shape."""
    # log sigmoid of both signs stays finite where log(p) and log(1 - p) would not.
    p, p_not = functional.logsigmoid(p_logits), functional.logsigmoid(-p_logits)
    q, q_not = functional.logsigmoid(q_logits), functional.logsigmoid(-q_logits)
    return p.exp() * (p - q) + p_not.exp() * (p_not - q_not)


def hard_cross_entropy(p_logits: Tensor, q_logits: Tensor, head: str) -> Tensor:
    """Cross-entropy of q against p's hard decision: per sample (and voxel) for softmax, per logit for sigmoid."""
    if head == "softmax":
        return functional.cross_entropy(q_logits, p_logits.argmax(1), reduction="none")
    return functional.binary_cross_entropy_with_logits(q_logits, (p_logits > 0).to(q_logits), reduction="none")


def prediction_divergence(smoothed: Tensor, example: Tensor, head: str, target: str) -> Tensor:
    """D(smoothed || example), averaged over everything but the batch: logits (n, K, ...) -> (n,)."""
    if smoothed.ndim == 2 and head == "softmax":
        return hard_cross_entropy(smoothed, example, head) if target == "hard" else softmax_kl(smoothed, example)

    def values(p_logits: Tensor, q_logits: Tensor) -> Tensor:
        if target == "hard":
            return hard_cross_entropy(p_logits, q_logits, head)
        return softmax_kl(p_logits, q_logits) if head == "softmax" else bernoulli_kl(p_logits, q_logits)

    count = smoothed[0].numel() // (smoothed.shape[1] if head == "softmax" else 1)
    return voxel_sum(values, smoothed, example) / count
