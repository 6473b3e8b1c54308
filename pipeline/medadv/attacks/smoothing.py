"""The Gaussian G of the smoothed branch: normalised, centred, separable, reflect padding."""

import math
from collections.abc import Sequence

import torch
from torch import Tensor
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
    """Convolve each channel with one kernel an axis; differentiable.

    x: (n, C, *spatial).  kernels: one odd-length 1D kernel per spatial axis, shorter than twice the axis.  Same shape out.
    """
    for axis, kernel in enumerate(kernels):
        half = kernel.numel() // 2
        length = x.shape[2 + axis]
        if length == 1:
            continue
        if half >= length:
            raise ValueError(f"a kernel of {kernel.numel()} voxels does not fit an axis of {length}: reflection needs more voxels")
        # (everything before the axis, 1, axis, everything after it): one 2D convolution for any number of axes, and nothing is transposed.
        flat = x.reshape(-1, 1, length, math.prod(x.shape[3 + axis :]))
        padded = functional.pad(flat, (0, 0, half, half), mode="reflect")
        x = functional.conv2d(padded, kernel.to(x).reshape(1, 1, -1, 1)).reshape(x.shape)
    return x
