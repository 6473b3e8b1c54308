"""Modules that compute no more than an attack needs: gradients of images, none of parameters, in the layout that convolutions like.

Their outputs are those of the modules they replace but for rounding, so that only inexact profiles take them.
"""

import math
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable

from medadv.victims.speed.memory_format import FORMATS, settled

ROW = 64
"""Voxels in a row of elementwise work, at most: broadcasting over rows of a few channels is ten times as slow."""


class ChannelwiseAffine(nn.Module):
    """Batch norm in evaluation: a factor and a shift for each channel, and on the way back the factor alone."""

    def __init__(self, like: Any) -> None:
        super().__init__()
        with torch.no_grad():
            factor = (like.running_var + like.eps).rsqrt()
            factor = factor if like.weight is None else factor * like.weight
            shift = -like.running_mean * factor
            shift = shift if like.bias is None else shift + like.bias
        self.factor, self.shift = (nn.Parameter(value, requires_grad=False) for value in (factor, shift))

    def forward(self, x: Tensor) -> Tensor:
        """(n, C, *spatial) of the same shape."""
        scaled: Tensor = _Affine.apply(x, self.factor, self.shift)
        return scaled


class _Affine(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, factor: Tensor, shift: Tensor) -> Tensor:
        ctx.save_for_backward(factor)
        x = settled(x)
        rows, spread = _in_rows(x)
        # Not a view of the rows: what follows may work in place.
        y = torch.empty_like(x)
        torch.addcmul(spread(shift), rows, spread(factor), out=_in_rows(y)[0])
        return y

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None, None]:
        (factor,) = ctx.saved_tensors
        rows, spread = _in_rows(gradient := settled(gradient))
        return (rows * spread(factor)).as_strided(gradient.shape, gradient.stride()), None, None


class ChannelsLastNorm(nn.Module):
    """Group norm, or instance norm without `groups`; PyTorch's backward pass takes up to eighty times as long in channels_last."""

    def __init__(self, groups: int | None, like: Any) -> None:
        super().__init__()
        self.groups, self.eps = groups, like.eps
        self.weight, self.bias = like.weight, like.bias

    def forward(self, x: Tensor) -> Tensor:
        """(n, C, *spatial) of the same shape."""
        normed: Tensor = _GroupNorm.apply(x, self.weight, self.bias, self.groups or x.shape[1], self.eps)
        return normed


class _GroupNorm(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor | None, bias: Tensor | None, groups: int, eps: float) -> Tensor:
        n, channels = x.shape[:2]
        y, mean, rstd = torch.native_group_norm(x, weight, bias, n, channels, x[0, 0].numel(), groups, eps)
        ctx.save_for_backward(x, mean, rstd, weight)
        ctx.groups = groups
        return y

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None, None, None, None]:
        x, mean, rstd, weight = ctx.saved_tensors
        x = settled(x)
        n, channels = x.shape[:2]
        size = x[0, 0].numel()
        if x.is_contiguous():
            sizes = (n, channels, size, ctx.groups)
            found = torch.ops.aten.native_group_norm_backward(gradient.contiguous(), x, mean, rstd, weight, *sizes, [True, False, False])
            return found[0], None, None, None, None
        # With g = gradient * weight and means over a group: dx = rstd * (g - mean(g) - x^ * mean(g x^)), x^ = (x - mean) * rstd. That is
        # a * gradient + k * x + c with a factor for each channel, and k and c for each group.
        # Both in one layout, or the answer would have the gradient's.
        gradient = gradient.contiguous(memory_format=FORMATS[x.ndim])
        voxels, grads = (t.movedim(1, -1).reshape(n, size, channels) for t in (x, gradient))
        factor = mean.new_ones(channels) if weight is None else weight.to(mean.dtype)
        first, second = (
            (total.to(mean.dtype) * factor).reshape(n, ctx.groups, -1).sum(-1) for total in (grads.sum(1), (grads * voxels).sum(1))
        )
        mean, rstd, each = mean.reshape(n, -1), rstd.reshape(n, -1), channels // ctx.groups
        k = rstd**3 * (mean * first - second) / (size * each)
        c = -rstd * first / (size * each) - k * mean
        a, k, c = (t.repeat_interleave(each, 1) for t in (rstd, k, c))
        rows, spread = _in_rows(x)
        grads = grads.reshape(rows.shape)
        found = torch.addcmul(spread(c), grads, spread(a * factor)).addcmul_(rows, spread(k))
        return found.as_strided(x.shape, x.stride()), None, None, None, None


def _in_rows(x: Tensor) -> tuple[Tensor, Callable[[Tensor], Tensor]]:
    """A settled (n, C, *spatial) as a view in long rows, and how values for each channel, (C,) or (n, C), meet them."""
    n, channels, *spatial = x.shape
    size = math.prod(spatial)
    if x.is_contiguous():
        return x.reshape(n, channels, size), lambda value: value.to(x.dtype).unsqueeze(-1)
    together = math.gcd(size, ROW)

    def spread(value: Tensor) -> Tensor:
        return value.to(x.dtype).repeat(*[1] * (value.ndim - 1), together).unsqueeze(-2)

    return x.movedim(1, -1).reshape(n, size // together, together * channels), spread
