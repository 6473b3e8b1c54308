"""Kullback-Leibler divergences between predictions, per element; zero where both agree."""

from torch import Tensor
from torch.nn import functional


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
    if target == "hard":
        values = hard_cross_entropy(smoothed, example, head)
    else:
        values = softmax_kl(smoothed, example) if head == "softmax" else bernoulli_kl(smoothed, example)
    return values.flatten(1).mean(1) if values.ndim > 1 else values
