"""The Gaussian G of the smoothed branch: normalised, centred, separable, reflect padding."""

import math
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable
from torch.nn import functional


def gaussian_weights(sigma: float, kernel_size: int, dtype: torch.dtype = torch.float64) -> Tensor:
    """Normalised samples of a centred Gaussian.

    sigma: in voxels.  kernel_size: odd number of samples.  Returns (kernel_size,), sum 1.
    """
    offsets = torch.arange(kernel_size, dtype=torch.float64) - (kernel_size - 1) / 2
    weights = torch.exp(-0.5 * (offsets / sigma) ** 2)
    return (weights / weights.sum()).to(dtype)


def axis_kernels(sigma: float, kernel_size: int, spacing_mm: Sequence[float] | None, axes: int) -> list[Tensor]:
    """One kernel an axis.

    Without spacing, sigma is in voxels and every axis has the same kernel. With it, sigma is in mm: each axis has its own sigma in voxels
    and a length that covers the same distance, `kernel_size` voxels of the finest axis.
    """
    if spacing_mm is None:
        return [gaussian_weights(sigma, kernel_size)] * axes
    if len(spacing_mm) != axes:
        raise ValueError(f"spacing_mm={list(spacing_mm)} has {len(spacing_mm)} entries for {axes} axes")
    reach = (kernel_size // 2) * min(spacing_mm)
    return [gaussian_weights(sigma / mm, 2 * max(1, round(reach / mm)) + 1) for mm in spacing_mm]


def smooth(x: Tensor, kernels: Sequence[Tensor]) -> Tensor:
    """Convolve each channel with one kernel an axis; differentiable once.

    x: (n, C, *spatial).  kernels: one odd-length 1D kernel per spatial axis, on the CPU, shorter than twice the axis.  Same shape out.
    """
    for axis, kernel in enumerate(kernels):
        half, length = kernel.numel() // 2, x.shape[2 + axis]
        if length == 1:
            continue
        if half >= length:
            raise ValueError(f"a kernel of {kernel.numel()} voxels does not fit an axis of {length}: reflection needs more voxels")
        # (everything before the axis, axis, everything after it): nothing is transposed, whatever the number of axes.
        flat = x.reshape(-1, length, math.prod(x.shape[3 + axis :]))
        x = _AlongAxis.apply(flat, kernel.tolist()).reshape(x.shape)
    return x


class _AlongAxis(torch.autograd.Function):
    """Convolution of (before, axis, after) along the middle with reflection at both ends, as a weighted sum of shifted views.

    A convolution with a single channel in and out runs up to twenty times slower on a CPU: its layout has no room for one channel.
    """

    @staticmethod
    def forward(ctx: Any, x: Tensor, weights: list[float]) -> Tensor:
        ctx.weights = weights
        half, length = len(weights) // 2, x.shape[1]
        padded = functional.pad(x.unsqueeze(1), (0, 0, half, half), mode="reflect").squeeze(1)
        total = padded.narrow(1, 0, length) * weights[0]
        for shift, weight in enumerate(weights[1:], 1):
            total.add_(padded.narrow(1, shift, length), alpha=weight)
        return total

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None]:
        half, length = len(ctx.weights) // 2, gradient.shape[1]
        padded = gradient.new_zeros(gradient.shape[0], length + 2 * half, gradient.shape[2])
        for shift, weight in enumerate(ctx.weights):
            padded.narrow(1, shift, length).add_(gradient, alpha=weight)
        # What was read by reflection goes back to where it was read.
        inner = padded.narrow(1, half, length)
        inner.narrow(1, 1, half).add_(padded.narrow(1, 0, half).flip(1))
        inner.narrow(1, length - 1 - half, half).add_(padded.narrow(1, half + length, half).flip(1))
        return inner, None
