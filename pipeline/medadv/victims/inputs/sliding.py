"""Sliding-window inference with an exact gradient whose memory does not grow with the volume.

Forward stitches the windows' logits without a graph. Backward replays each batch of windows with its share of the incoming gradient and
adds up what reaches the input. Where weights are trained, the graph is kept instead. Windows, overlap, blending and padding are those of
MONAI's `sliding_window_inference`, or of nnU-Net.
"""

import math
from collections.abc import Sequence
from functools import lru_cache
from itertools import product
from typing import Any

import numpy as np
import torch
from monai.data.utils import compute_importance_map, dense_patch_slices
from scipy.ndimage import gaussian_filter
from torch import Tensor, nn
from torch.nn import functional

from medadv.victims.inputs.around import Around

Place = tuple[slice, ...]
"""Where a window lies: one slice per spatial axis."""
SIGMA_SCALE = 0.125
"""Width of the Gaussian blending, as a share of the window; MONAI's and nnU-Net's."""
NNUNET_PEAK = 10.0
"""nnU-Net's greatest blending weight."""


class Windowed(Around):
    """A network that sees images through overlapping windows, (up to `batch` windows, C, *window) at once.

    Smaller images are padded on both sides, after the victim's normalisation: `constant` with zeros, `replicate` with their edge.  rule:
    whose places and whose Gaussian, `monai` or `nnunet`.
    """

    def __init__(
        self,
        network: nn.Module,
        window: Sequence[int],
        overlap: float,
        mode: str,
        batch: int,
        padding: str = "constant",
        rule: str = "monai",
    ) -> None:
        super().__init__(network)
        self.window, self.overlap, self.mode, self.batch = tuple(window), overlap, mode, batch
        self.padding, self.rule = padding, rule

    def padded(self, images: Tensor) -> tuple[Tensor, list[int]]:
        """Images of at least the window's size, and what was put before each axis.  Raises ValueError where axes are too few or many."""
        if images.ndim != len(self.window) + 2:
            raise ValueError(f"window={list(self.window)} has {len(self.window)} lengths for images of {images.ndim - 2} axes")
        sides = [max(0, window - length) for window, length in zip(self.window, images.shape[2:], strict=True)]
        before = [side // 2 for side in sides]
        padding = [p for side, first in zip(reversed(sides), reversed(before), strict=True) for p in (first, side - first)]
        return (functional.pad(images, padding, self.padding) if any(padding) else images), before

    def places(self, spatial: Sequence[int]) -> list[Place]:
        """Where the windows lie on a grid of at least the window's size."""
        if self.rule == "nnunet":
            starts = [even_starts(length, window, 1 - self.overlap) for length, window in zip(spatial, self.window, strict=True)]
            corners = product(*starts)
            return [tuple(slice(at, at + window) for at, window in zip(corner, self.window, strict=True)) for corner in corners]
        step = [
            window if window == length else max(1, int(window * (1 - self.overlap)))
            for window, length in zip(self.window, spatial, strict=True)
        ]
        return [tuple(place) for place in dense_patch_slices(tuple(spatial), self.window, tuple(step))]

    def importance(self, like: Tensor) -> Tensor:
        """Blending weight of each voxel of a window, (*window), of the type and on the device of `like`; shared, never written to."""
        return _importance(self.window, self.mode, self.rule, like.device, like.dtype)


class SlidingWindow(Windowed):
    """A network that answers whole images through overlapping windows.  forward: (n, C, *spatial) to logits (n, K, *spatial)."""

    def forward(self, images: Tensor) -> Tensor:
        padded, before = self.padded(images)
        if self.network.training and torch.is_grad_enabled() and not padded.requires_grad:
            # Weights are trained, which replaying would not reach. The graph holds every window anyway, so batch-norm sees all of them.
            places = self.places(padded.shape[2:])
            stitched = _stitch(padded, self, places, len(padded) * len(places))[0]
        else:
            stitched = _Stitched.apply(padded, self)
        for axis, (first, length) in enumerate(zip(before, images.shape[2:], strict=True)):
            stitched = stitched.narrow(2 + axis, first, length)
        return stitched


def even_starts(length: int, window: int, step: float) -> list[int]:
    """Where nnU-Net's windows start along an axis: as few as come no further apart than `step` windows, evenly spread from end to end."""
    count = math.ceil((length - window) / (window * step)) + 1
    apart = (length - window) / (count - 1) if count > 1 else 0
    # numpy's rounding, to even, as nnU-Net's.
    return [int(np.round(apart * index)) for index in range(count)]


@lru_cache(maxsize=8)
def _importance(window: tuple[int, ...], mode: str, rule: str, device: torch.device, dtype: torch.dtype) -> Tensor:
    if rule == "nnunet" and mode == "gaussian":
        peak = np.zeros(window)
        peak[tuple(length // 2 for length in window)] = 1
        blurred = torch.from_numpy(gaussian_filter(peak, [length * SIGMA_SCALE for length in window], mode="constant"))
        blurred *= NNUNET_PEAK / blurred.max()
        # Its half precision, in which nnU-Net keeps the weights, makes the corners 0; they take the least weight there is.
        blurred = blurred.half()
        blurred[blurred == 0] = blurred[blurred > 0].min()
        return blurred.to(device, dtype)
    # MONAI reads the least weight back: on the host, and once, nobody waits for it. What inference mode makes, no gradient could use later.
    with torch.inference_mode(False):
        return torch.as_tensor(compute_importance_map(window, mode=mode, sigma_scale=SIGMA_SCALE, dtype=dtype)).to(device)


def _stitch(images: Tensor, sliding: SlidingWindow, places: list[Place], batch: int) -> tuple[Tensor, Tensor, Tensor]:
    """Logits of whole images, (n, K, *spatial), a window's blending weights, and those added up, (*spatial).  batch: windows at once."""
    importance = sliding.importance(images)
    total = images.new_zeros(images.shape[2:])
    for place in places:
        view(total[None, None], 0, place).add_(importance)
    stitched: Tensor | None = None
    for chosen in chunks(len(images) * len(places), batch):
        logits = sliding.network(cut(images, places, chosen))
        if logits.shape[2:] != sliding.window:
            raise ValueError(f"the network answers {list(logits.shape[2:])} for a window of {list(sliding.window)}; both must be equal")
        if stitched is None:
            stitched = logits.new_zeros(len(images), logits.shape[1], *images.shape[2:])
        for answer, (sample, place) in zip(logits, where(places, chosen), strict=True):
            view(stitched, sample, place).add_(answer * importance)
    assert stitched is not None
    return stitched.div_(total), importance, total


class _Stitched(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, images: Tensor, sliding: SlidingWindow) -> Tensor:
        places = sliding.places(images.shape[2:])
        stitched, importance, total = _stitch(images, sliding, places, sliding.batch)
        ctx.save_for_backward(images, importance, total)
        ctx.sliding, ctx.places = sliding, places
        return stitched

    @staticmethod
    def backward(ctx: Any, incoming: Tensor) -> tuple[Tensor, None]:
        images, importance, total = ctx.saved_tensors
        gradient = torch.zeros_like(images)
        for chosen in chunks(len(images) * len(ctx.places), ctx.sliding.batch):
            windows = cut(images, ctx.places, chosen).requires_grad_()
            placed = where(ctx.places, chosen)
            share = torch.stack([view(incoming, sample, place) * (importance / total[place]) for sample, place in placed])
            with torch.enable_grad():
                logits = ctx.sliding.network(windows)
            (parts,) = torch.autograd.grad(logits, windows, share)
            for part, (sample, place) in zip(parts, placed, strict=True):
                view(gradient, sample, place).add_(part)
        return gradient, None


def chunks(count: int, size: int) -> list[range]:
    """Numbers below `count`, `size` at a time."""
    return [range(start, min(start + size, count)) for start in range(0, count, size)]


def where(places: list[Place], chosen: range) -> list[tuple[int, Place]]:
    """Sample and place of windows that are numbered sample by sample."""
    return [(index // len(places), places[index % len(places)]) for index in chosen]


def view(grid: Tensor, sample: int, place: Place) -> Tensor:
    """One window of one sample, all channels."""
    return grid[sample][(slice(None), *place)]


def cut(images: Tensor, places: list[Place], chosen: range) -> Tensor:
    """These windows, (windows, C, *window), without a graph."""
    return torch.stack([view(images, sample, place) for sample, place in where(places, chosen)]).detach()
