"""One memory layout through a whole network: where gradients come in another one than activations, sums of both take ten times as long."""

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable
from torch.overrides import TorchFunctionMode

FORMATS = {4: torch.channels_last, 5: torch.channels_last_3d}
"""Channels last, by number of axes."""
WIDE = 32
"""Channels from which on a slice is as fast where it lies as a copy would be."""


def settled(x: Tensor) -> Tensor:
    """With channels first or last in memory; anything else, such as a slice of channels, is copied as channels last."""
    if x.ndim not in FORMATS:
        return x.contiguous()
    return x if x.is_contiguous() or x.is_contiguous(memory_format=FORMATS[x.ndim]) else x.contiguous(memory_format=FORMATS[x.ndim])


class SettledSlices(TorchFunctionMode):
    """While it is entered, what `torch.cat` joins along channels gets gradients with a layout of their own."""

    def __torch_function__(self, func: Any, types: Any, args: Sequence[Any] = (), kwargs: Any = None) -> Any:
        """Only the usual way to call it is taken: a list of tensors of one type, and the axis."""
        kwargs = kwargs or {}
        if func is torch.cat and _joins_channels(args, kwargs):
            return _Cat.apply(*args[0])
        return func(*args, **kwargs)


def _joins_channels(args: Sequence[Any], kwargs: dict[str, Any]) -> bool:
    if len(args) == 2 and not kwargs:
        axis = args[1]
    elif len(args) == 1 and set(kwargs) == {"dim"}:
        axis = kwargs["dim"]
    else:
        return False
    return axis == 1 and len({part.dtype for part in args[0]}) == 1 and all(part.ndim in FORMATS for part in args[0])


class _Cat(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, *parts: Tensor) -> Tensor:
        ctx.channels = [part.shape[1] for part in parts]
        return torch.cat(parts, 1)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, ...]:
        return tuple(part if part.shape[1] >= WIDE else settled(part) for part in gradient.split(ctx.channels, 1))


def leave_half(x: Tensor) -> Tensor:
    """float32 with channels first, as losses read it; on the way back the type and layout that `x` has."""
    left: Tensor = _Leave.apply(x)
    return left


class _Leave(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        ctx.dtype = x.dtype
        ctx.last = x.ndim in FORMATS and x.is_contiguous(memory_format=FORMATS[x.ndim]) and not x.is_contiguous()
        return x.float().contiguous()

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> Tensor:
        # Two passes: converting and reordering in one is twice as slow.
        half = gradient.to(ctx.dtype)
        return half.contiguous(memory_format=FORMATS[half.ndim]) if ctx.last else half


def with_settled_slices(forward: Callable[..., Any]) -> Callable[..., Any]:
    """A network's `forward`, run inside `SettledSlices`."""

    def inner(*args: Any, **kwargs: Any) -> Any:
        with SettledSlices():
            return forward(*args, **kwargs)

    return inner
