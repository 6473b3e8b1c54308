"""How else may a step see the image? Shrunk at random and padded at random (DI-FGSM), with the way back for what is answered.

Xie, Zhang, Zhou, Bai, Wang, Ren, Yuille: Improving Transferability of Adversarial Examples with Input Diversity, CVPR 2019 (arXiv
1803.06978). The image shrinks by one factor along all axes, to between `SMALLEST` of its grid and all but one voxel, and lies anywhere on
that grid, which stays what it is: networks for volumes and windows take no other. Padding has the lattice's lowest value: black, or air.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from medadv.common.hashing import seed_of

SMALLEST = 0.9
"""Least length of a shrunk axis, as a part of its grid: 299 of 330 in the paper, 0.9 elsewhere."""


@dataclass(frozen=True)
class Placing:
    """Where a shrunk image lies on its grid: along each axis `lengths` voxels from `offsets` on."""

    grid: tuple[int, ...]
    lengths: tuple[int, ...]
    offsets: tuple[int, ...]

    def there(self, image: Tensor, outside: float) -> Tensor:
        """(C, *grid) shrunk by linear interpolation and padded, (C, *grid).  outside: value of the padding."""
        shrunk = image - outside
        for axis, (full, length, offset) in enumerate(zip(self.grid, self.lengths, self.offsets, strict=True), 1):
            places = torch.arange(full, dtype=shrunk.dtype, device=shrunk.device)
            inside = (places >= offset) & (places < offset + length)
            read = ((places - offset + 0.5) * (full / length) - 0.5).clamp(0, full - 1)
            shrunk = _along(shrunk, axis, _between(read, places) * inside.unsqueeze(1))
        return shrunk + outside

    def back(self, answer: Tensor) -> Tensor:
        """What was answered at each voxel of the shrunk image, (K, *grid), where that voxel was before, (K, *grid)."""
        # Half precision does not hold the places.
        answer = answer.to(torch.promote_types(answer.dtype, torch.float32))
        for axis, (full, length, offset) in enumerate(zip(self.grid, self.lengths, self.offsets, strict=True), 1):
            places = torch.arange(full, dtype=answer.dtype, device=answer.device)
            read = ((places + 0.5) * (length / full) - 0.5 + offset).clamp(offset, offset + length - 1)
            answer = _along(answer, axis, _between(read, places))
        return answer

    def boxes(self, boxes: Tensor) -> Tensor:
        """Boxes (m, 2 * axes), lows before highs and axes as the grid has them, on the shrunk image."""
        corners = [boxes[:, i] * (self.lengths[i % len(self.grid)] / self.grid[i % len(self.grid)]) for i in range(boxes.shape[1])]
        return torch.stack([corner + self.offsets[i % len(self.grid)] for i, corner in enumerate(corners)], 1)


Placings = Sequence[Placing | None]
"""One a sample; None where it is seen as it is."""


def draw_placings(grid: Sequence[int], steps: int, probability: float, seed: int) -> list[Placing | None]:
    """Of one sample, for every step. Like its start they follow from its seed alone."""
    drawn = np.random.Generator(np.random.Philox(key=seed_of("diversity", seed))).random((steps, 2 + len(grid)))
    return [_placing(grid, float(row[1]), row[2:].tolist()) if row[0] < probability else None for row in drawn]


def _placing(grid: Sequence[int], size: float, places: Sequence[float]) -> Placing:
    """size, places: in [0, 1), of what can be drawn."""
    least = [max(1, int(SMALLEST * full)) for full in grid]
    lengths = [low + int(size * (full - low)) for low, full in zip(least, grid, strict=True)]
    offsets = [int(place * (full - length)) for place, full, length in zip(places, grid, lengths, strict=True)]
    return Placing(tuple(grid), tuple(lengths), tuple(offsets))


def place(images: Tensor, placings: Placings, outside: float) -> Tensor:
    """Images (n, C, *spatial) as a step sees them, image by image, so that none has a say in another's bits."""
    return torch.stack([image if p is None else p.there(image, outside) for image, p in zip(images, placings, strict=True)])


def placed_back(answers: Tensor, placings: Placings) -> Tensor:
    """Dense answers (n, K, *spatial) to placed images, on the grid of the images themselves."""
    dtype = torch.promote_types(answers.dtype, torch.float32)
    return torch.stack([answer.to(dtype) if p is None else p.back(answer) for answer, p in zip(answers, placings, strict=True)])


def _between(read: Tensor, places: Tensor) -> Tensor:
    """Weights (out, in) of linear interpolation at the places `read` (out,) between whole ones (in,)."""
    return (1 - (read.unsqueeze(1) - places).abs()).clamp(min=0)


def _along(x: Tensor, axis: int, weights: Tensor) -> Tensor:
    """Linear map of one axis.

    As a product of matrices, whose gradient is one too: torch's own interpolation adds gradients up in any order on a GPU.
    """
    return (x.movedim(axis, -1) @ weights.T).movedim(-1, axis)
