"""How does a detector's network answer large images through windows? Every map of its head stitched, with an exact gradient.

As `sliding.py`, for several outputs of several resolutions: forward stitches without a graph, backward replays each batch of windows with
its share of what comes back to every map. Places, weights, rounding and padding are those of MONAI's `sliding_window_inference`, through
which its RetinaNetDetector is deployed.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from medadv.victims.inputs.around import Around
from medadv.victims.inputs.sliding import Place, Windowed, chunks, cut, view, where

Maps = dict[str, list[Tensor]]


class SlidingMaps(Windowed):
    """A detector's network that answers large images through overlapping windows.

    forward: (n, C, *spatial) to {key: [(n, K, *grid) of each level]} for each of `keys`, whose network answers a dictionary of maps or of
    lists of maps, or all maps one after the other.
    """

    def __init__(
        self,
        network: nn.Module,
        keys: Sequence[str],
        window: Sequence[int],
        overlap: float,
        mode: str,
        batch: int,
        padding: str = "constant",
    ) -> None:
        super().__init__(_InOrder(network, keys), window, overlap, mode, batch, padding)
        self.keys = tuple(keys)

    def forward(self, images: Tensor) -> Maps:
        """Through windows, whatever the size of the images."""
        padded, before = self.padded(images)
        stitched: tuple[Tensor, ...]
        if self.network.training and torch.is_grad_enabled() and not padded.requires_grad:
            # Weights are trained, which replaying would not reach.
            places = self.places(padded.shape[2:])
            stitched = _stitch(padded, self, places, len(padded) * len(places))[0]
        else:
            stitched = _StitchedMaps.apply(padded, self)
        if padded.shape != images.shape:
            stitched = tuple(self._unpadded(each, before, images.shape[2:]) for each in stitched)
        return self._by_key(stitched)

    def whole(self, images: Tensor) -> Maps:
        """In one pass, as images go through that are smaller than a window."""
        return self._by_key(self.network(images))

    def _unpadded(self, stitched: Tensor, before: Sequence[int], lengths: Sequence[int]) -> Tensor:
        for axis, (first, length, window) in enumerate(zip(before, lengths, self.window, strict=True)):
            # MONAI's scale and rounding; along an axis longer than the window this reaches beyond the end, where slices stop by themselves.
            scale = stitched.shape[2 + axis] / window
            start, stop = round(first * scale), min(round((first + length) * scale), stitched.shape[2 + axis])
            stitched = stitched.narrow(2 + axis, start, stop - start)
        return stitched

    def _by_key(self, maps: Sequence[Tensor]) -> Maps:
        levels = len(maps) // len(self.keys)
        return {key: list(maps[index * levels : (index + 1) * levels]) for index, key in enumerate(self.keys)}


class _InOrder(Around):
    """A detector's network whose maps come one after the other: those of the first key from the finest level on, then the next key's."""

    def __init__(self, network: nn.Module, keys: Sequence[str]) -> None:
        super().__init__(network)
        self.keys = tuple(keys)

    def forward(self, images: Tensor) -> list[Tensor]:
        answers = self.network(images)
        if not isinstance(answers, Mapping):
            return list(answers)
        found = [answers[key] for key in self.keys]
        return [level for levels in found for level in ([levels] if isinstance(levels, Tensor) else levels)]


@dataclass(frozen=True)
class _Level:
    """One map of a whole image.  places: of each window in it.  weight: of each cell of a window.  total: (*grid), weights added up."""

    places: list[Place]
    weight: Tensor
    total: Tensor


def _level(sliding: Windowed, spatial: Sequence[int], places: Sequence[Place], cells: Sequence[int], weight: Tensor) -> _Level:
    """cells: lengths of the map of one window.  weight: of each of these cells."""
    scales = [answered / float(window) for answered, window in zip(cells, sliding.window, strict=True)]
    # Whole numbers by cutting off, as MONAI's, also where a window starts between two cells.
    total = weight.new_zeros([int(length * scale) for length, scale in zip(spatial, scales, strict=True)])
    found: list[Place] = []
    for place in places:
        found.append(tuple(slice(int(part.start * scale), int(part.stop * scale)) for part, scale in zip(place, scales, strict=True)))
        total[found[-1]] += weight
    return _Level(found, weight, total)


def _stitch(images: Tensor, sliding: SlidingMaps, places: list[Place], batch: int) -> tuple[tuple[Tensor, ...], list[_Level]]:
    """All maps of whole images, and how windows lie in each. batch: windows at once."""
    levels: list[_Level] = []
    stitched: list[Tensor] = []
    for chosen in chunks(len(images) * len(places), batch):
        maps = sliding.network(cut(images, places, chosen))
        if not levels:
            weight = sliding.importance(images)
            for each in maps:
                weight = _resized(weight, each.shape[2:])
                levels.append(_level(sliding, images.shape[2:], places, each.shape[2:], weight))
                stitched.append(each.new_zeros(len(images), each.shape[1], *levels[-1].total.shape))
        for each, level, onto in zip(maps, levels, stitched, strict=True):
            for answer, (sample, place) in zip(each, where(level.places, chosen), strict=True):
                view(onto, sample, place).add_(answer * level.weight)
    return tuple(each.div_(level.total) for each, level in zip(stitched, levels, strict=True)), levels


class _StitchedMaps(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, images: Tensor, sliding: SlidingMaps) -> tuple[Tensor, ...]:
        places = sliding.places(images.shape[2:])
        stitched, levels = _stitch(images, sliding, places, sliding.batch)
        ctx.save_for_backward(images)
        ctx.sliding, ctx.places, ctx.levels = sliding, places, levels
        return stitched

    @staticmethod
    def backward(ctx: Any, *incoming: Tensor) -> tuple[Tensor, None]:
        (images,) = ctx.saved_tensors
        gradient = torch.zeros_like(images)
        for chosen in chunks(len(images) * len(ctx.places), ctx.sliding.batch):
            windows = cut(images, ctx.places, chosen).requires_grad_()
            shares = [_share(each, level, chosen) for each, level in zip(incoming, ctx.levels, strict=True)]
            with torch.enable_grad():
                maps = ctx.sliding.network(windows)
            (parts,) = torch.autograd.grad(maps, windows, shares)
            for part, (sample, place) in zip(parts, where(ctx.places, chosen), strict=True):
                view(gradient, sample, place).add_(part)
        return gradient, None


def _share(incoming: Tensor, level: _Level, chosen: range) -> Tensor:
    """What comes back to these windows of what comes back to a whole map."""
    return torch.stack([view(incoming, sample, at) * (level.weight / level.total[at]) for sample, at in where(level.places, chosen)])


def _resized(weight: Tensor, cells: Sequence[int]) -> Tensor:
    """Weights of the map before this one at this one's resolution, as MONAI hands them on from map to map."""
    if weight.shape == tuple(cells):
        return weight
    return functional.interpolate(weight[None, None], tuple(cells), mode="nearest-exact")[0, 0]
