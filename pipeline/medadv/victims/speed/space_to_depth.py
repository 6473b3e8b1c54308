"""Strided convolutions of few channels, such as a network's first, as dense ones on blocks of voxels.

oneDNN computes with sixteen channels at a time: the gradient of an image with three of them wastes most of that. Moving the voxels of a
block that is as long as the stride into channels (space to depth) leaves an equal convolution with stride 1 and fewer taps.
"""

import math
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.nn.utils import skip_init

LANES = 16
"""Channels beyond which blocks gain nothing."""


def is_thin(part: Any) -> bool:
    """Whether a module is a convolution that `SpaceToDepth` computes faster."""
    return (
        type(part) in (nn.Conv2d, nn.Conv3d)
        and part.in_channels * math.prod(part.stride) <= LANES
        and math.prod(part.stride) > 1
        and part.groups == 1
        and part.padding_mode == "zeros"
        and not isinstance(part.padding, str)
        and set(part.dilation) == {1}
    )


class SpaceToDepth(nn.Module):
    """The same convolution; its weight is rearranged once."""

    def __init__(self, like: Any) -> None:
        super().__init__()
        self.stride: tuple[int, ...] = like.stride
        # For each spatial axis: voxels of the kernel, stride, padding, blocks that the kernel touches.
        self.axes = [(k, s, p, -(-k // s)) for k, s, p in zip(like.kernel_size, like.stride, like.padding, strict=True)]
        dense = nn.Conv2d if isinstance(like, nn.Conv2d) else nn.Conv3d
        inner, taps = like.in_channels * math.prod(self.stride), [blocks for *_, blocks in self.axes]
        # A convolution of its own, so that it may be replaced in turn; drawing weights for it would move the global generator.
        self.dense = skip_init(dense, inner, like.out_channels, taps, bias=False, device=like.weight.device, dtype=like.weight.dtype)
        with torch.no_grad():
            # The kernel is filled up with zeros at its far end to whole blocks.
            filled = _padded(like.weight, [0] * len(self.axes), [blocks * s - k for k, s, _, blocks in self.axes])
            self.dense.weight.copy_(_blocked(filled, self.stride))
        self.dense.weight.requires_grad_(False)
        self.dense.bias = like.bias

    def forward(self, x: Tensor) -> Tensor:
        """(n, C, *spatial) to (n, O, *spatial / stride)."""
        # As long as what the windows read; a last voxel that no window reads is cut off.
        far = [s * ((n + 2 * p - k) // s + blocks) - n - p for n, (k, s, p, blocks) in zip(x.shape[2:], self.axes, strict=True)]
        blocks = _blocked(_padded(x, [p for _, _, p, _ in self.axes], far), self.stride)
        answer: Tensor = self.dense(blocks)
        return answer


def _padded(x: Tensor, near: list[int], far: list[int]) -> Tensor:
    """Zeros before and after each spatial axis; negative lengths cut."""
    return functional.pad(x, [v for pair in zip(reversed(near), reversed(far), strict=True) for v in pair])


def _blocked(x: Tensor, block: tuple[int, ...]) -> Tensor:
    """(n, C, *spatial) to (n, C * block, *spatial / block)."""
    lengths = [length // b for length, b in zip(x.shape[2:], block, strict=True)]
    split = x.reshape(*x.shape[:2], *(v for pair in zip(lengths, block, strict=True) for v in pair))
    axes = range(len(block))
    return split.permute(0, 1, *(3 + 2 * i for i in axes), *(2 + 2 * i for i in axes)).reshape(len(x), -1, *lengths)
