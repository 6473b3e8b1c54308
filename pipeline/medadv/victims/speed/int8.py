"""Convolutions in 8-bit products: on a CPU without matrix tiles twice as fast as bfloat16, and exact sums in any order.

Weights are quantized for each output channel, once; images and activations by the range of the batch; gradients by the range of each
sample, since one that the network is still sure of has a gradient thousands of times as small as its neighbour's.
"""

import math
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable

from medadv.common.machine import fast_products
from medadv.victims.speed.memory_format import FORMATS

WORTHWHILE = 80
"""Products for each value that a convolution reads or writes, from which on it gains more than quantizing costs."""
MAGIC = 1.5 * 2**23
"""Added to a single-precision number it leaves the nearest integer in the lowest bits, in one pass."""
FEW = 160
"""Voxels of a batch below which bfloat16 is faster: what an offset of zero adds is summed from the weights in every call."""
CACHED = 1 << 19
"""Values that are quantized at a time: their single precision in between stays in the processor's last cache."""
TINY = 2.0**-100
"""The least scale: what is all zeros needs one that can be divided by."""
SIZE_BITS = 0x7FFF
"""Everything of a bfloat16 but its sign; as integers, these bits are ordered like the sizes of the numbers."""


def has_int8_products() -> bool:
    """Whether the processor multiplies and adds bytes without saturating on the way."""
    return "int8" in fast_products()


def is_quantizable(part: Any) -> bool:
    """Whether a module is a convolution that `Int8Convolution` computes faster; the way back through a strided one has no such kernel."""
    return (
        type(part) in (nn.Conv2d, nn.Conv3d)
        and part.weight.numel() >= WORTHWHILE * (part.in_channels + part.out_channels)
        and set(part.stride) == {1}
        and part.groups == 1
        and part.padding_mode == "zeros"
        and not isinstance(part.padding, str)
        # The way back is a convolution with what is left of the padding.
        and all(p <= far for p, far in zip(part.padding, _reach(part), strict=True))
    )


def _reach(part: Any) -> list[int]:
    return [d * (k - 1) for d, k in zip(part.dilation, part.kernel_size, strict=True)]


class Int8Convolution(nn.Module):
    """A convolution with stride 1 on bfloat16, both ways in 8-bit products summed in 32 bits; its weights are constants."""

    def __init__(self, like: Any) -> None:
        super().__init__()
        self.plain = like
        weight = like.weight.detach().float()
        bias = None if like.bias is None else like.bias.detach().float()
        self.ahead = _Products(weight, bias, like.padding, like.dilation)
        flipped = weight.flip(list(range(2, weight.ndim))).transpose(0, 1).contiguous()
        self.back = _Products(flipped, None, [far - p for far, p in zip(_reach(like), like.padding, strict=True)], like.dilation)

    def forward(self, x: Tensor) -> Tensor:
        """(n, C, *spatial) to (n, O, *spatial), bfloat16."""
        answer: Tensor = self.plain(x) if x.numel() < FEW * x.shape[1] else _Int8.apply(x, self.ahead, self.back)
        return answer


class _Int8(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, ahead: "_Products", back: "_Products") -> Tensor:
        ctx.back = back
        return ahead(x, each=False)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None, None]:
        return ctx.back(gradient, each=True), None, None


class _Products:
    """Quantize, multiply, and back to bfloat16."""

    def __init__(self, weight: Tensor, bias: Tensor | None, padding: Sequence[int], dilation: Sequence[int]) -> None:
        self.scales = weight.abs().flatten(1).amax(1).clamp(min=TINY) / 127
        self.weight = (weight / self.scales.reshape(-1, *[1] * (weight.ndim - 1))).round().to(torch.int8)
        self.zeros = torch.zeros(len(weight), dtype=torch.int32)
        self.bias, self.geometry = bias, ([1] * len(padding), list(padding), list(dilation), 1)
        self.packed: Tensor | None = None

    def __call__(self, x: Tensor, each: bool) -> Tensor:
        """each: a scale for each sample, not one for the batch; allowed without a bias."""
        x = x.contiguous(memory_format=FORMATS[x.ndim])
        each = each and len(x) > 1
        levels, scales, zero = _quantized(x, each)
        if self.packed is None:
            self.packed = torch.ops.onednn.qconv_prepack(self.weight, self.scales, 1.0, 0, *self.geometry, list(x.shape))
        multiply = torch.ops.onednn.qconv2d_pointwise if x.ndim == 4 else torch.ops.onednn.qconv3d_pointwise
        source = (levels, 1.0 if each else float(scales), zero)
        target: tuple[Any, ...] = (1.0, 0, torch.bfloat16, "none", [], "")
        answer: Tensor = multiply(*source, self.packed, self.scales, self.zeros, self.bias, *self.geometry, *target)
        if each:
            # In memory a sample is one long row: broadcasting by rows is fast, by voxels it is not.
            answer.movedim(1, -1).view(len(answer), -1).mul_(scales.to(answer.dtype).unsqueeze(1))
        return answer


def _quantized(x: Tensor, each: bool) -> tuple[Tensor, Tensor, int]:
    """uint8 levels, the scale or the scales (n,) in float32, and the level of zero.

    x: bfloat16 with channels last in memory. What is not finite makes the scale so, and with it the answer.
    """
    rows = x.movedim(1, -1).view(len(x) if each else 1, -1)
    if each:
        scales, zero = (_sizes(rows) / 127).clamp(min=TINY), 128
    else:
        low, high = _range(rows)
        scale = max((high - low) / 254, TINY) if math.isfinite(high - low) else math.nan
        scales, zero = torch.tensor([scale]), 0 if math.isnan(scale) else round(-low / scale)
    levels = torch.empty_like(rows, dtype=torch.uint8)
    factors = scales.reciprocal().unsqueeze(1).expand_as(rows)
    for part, place, factor in zip(_pieces(rows), _pieces(levels), _pieces(factors), strict=True):
        values = part.float().mul_(factor[:, :1]).add_(MAGIC + zero)
        place.copy_(values.view(torch.int32))
    return levels.view(x.movedim(1, -1).shape).movedim(-1, 1), scales, zero


def _sizes(rows: Tensor) -> Tensor:
    """The largest absolute value of each row, float32."""
    found = [(part & SIZE_BITS).amax(1) for part in _pieces(rows.view(torch.int16))]
    return torch.cat(found).view(len(rows), -1).amax(1).view(torch.bfloat16).float()


def _range(rows: Tensor) -> tuple[float, float]:
    """Least and largest value, zero among them."""
    bits = rows.view(torch.int16)
    high = bits.amax().clamp(min=0).view(torch.bfloat16)
    # With its size reversed the least of the negative numbers is the least integer.
    low = torch.stack([(part ^ SIZE_BITS).amin() for part in _pieces(bits)]).amin().clamp(max=-1) ^ SIZE_BITS
    return float(low.view(torch.bfloat16)), float(high)


def _pieces(rows: Tensor) -> list[Tensor]:
    """(n, values) in pieces that stay in the processor's cache: whole, or parts of one row after the other."""
    if rows.numel() <= CACHED:
        return [rows]
    return [part for row in rows.split(1) for part in row.split(CACHED, 1)]
