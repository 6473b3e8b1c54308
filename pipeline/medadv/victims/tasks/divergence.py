"""Kullback-Leibler divergences between predictions, per element; zero where both agree."""

from collections.abc import Callable, Iterator, Sequence
from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable
from torch.nn import functional

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
    total: Tensor = _SlabSum.apply(function, axis, -(-length // slabs), *tensors)
    return total


class _SlabSum(torch.autograd.Function):
    """Gradients are written slab by slab into one tensor for each input: gathered by autograd they would be there twice."""

    @staticmethod
    def forward(ctx: Any, function: Callable[..., Tensor], axis: int, slab: int, *tensors: Tensor) -> Tensor:
        ctx.function, ctx.axis, ctx.slab = function, axis, slab
        ctx.save_for_backward(*tensors)
        sums = [function(*part).flatten(1).sum(1) for part in _slabs(tensors, slab, axis)]
        return sum(sums[1:], start=sums[0])

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, incoming: Tensor) -> tuple[Tensor | None, ...]:
        tensors, needed = ctx.saved_tensors, ctx.needs_input_grad[3:]
        gradients = [torch.empty_like(tensor) if need else None for tensor, need in zip(tensors, needed, strict=True)]
        places = [_slabs([gradient], ctx.slab, ctx.axis) if gradient is not None else None for gradient in gradients]
        for part in _slabs(tensors, ctx.slab, ctx.axis):
            leaves = [tensor.detach().requires_grad_(need) for tensor, need in zip(part, needed, strict=True)]
            with torch.enable_grad():
                value = ctx.function(*leaves).flatten(1).sum(1)
            found = iter(torch.autograd.grad(value, [leaf for leaf, need in zip(leaves, needed, strict=True) if need], incoming))
            for place in places:
                if place is not None:
                    next(place)[0].copy_(next(found))
        return None, None, None, *gradients


def _slabs(tensors: Sequence[Tensor], slab: int, axis: int) -> Iterator[tuple[Tensor, ...]]:
    return zip(*(tensor.split(slab, axis) for tensor in tensors), strict=True)


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
