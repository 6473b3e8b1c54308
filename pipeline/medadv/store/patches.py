"""Read a part of a sample, touching only the chunks that hold it, and bring label and geometry along."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from medadv.datasets.labels import Array, Boxes


@dataclass(frozen=True)
class Window:
    """A box of voxels: starts and lengths along the spatial axes; `whole` when it is the image."""

    start: tuple[int, ...]
    size: tuple[int, ...]
    whole: bool

    @classmethod
    def drawn(cls, shape: Sequence[int], size: Sequence[int] | None, draw: np.random.Generator) -> "Window":
        """A window of `size` at a uniform random place of an image of `shape`; the image itself when size is None."""
        if size is None:
            return cls((0,) * len(shape), tuple(shape), True)
        if len(size) != len(shape) or any(not 0 < part <= length for part, length in zip(size, shape, strict=True)):
            raise ValueError(f"a patch of {list(size)} does not fit images of {list(shape)}")
        start = tuple(int(draw.integers(length - part + 1)) for part, length in zip(size, shape, strict=True))
        return cls(start, tuple(size), tuple(size) == tuple(shape))

    @property
    def slices(self) -> tuple[slice, ...]:
        """For indexing the trailing axes of an array."""
        return tuple(slice(first, first + length) for first, length in zip(self.start, self.size, strict=True))


def read_window(dataset: Any, row: int, window: Window) -> Array:
    """(…, *window.size) of one sample of an array [n, …, *spatial]."""
    if window.whole:
        return np.asarray(dataset[row])
    leading = (slice(None),) * (dataset.ndim - 1 - len(window.size))
    return np.asarray(dataset[(row, *leading, *window.slices)])


def crop_boxes(boxes: Boxes, window: Window, axes: str) -> Boxes:
    """Boxes (x first) in the window's own pixels, clipped to it; those outside are dropped. axes: order of the spatial axes, such as yx."""
    if window.whole:
        return boxes
    order = [axes.index(axis) for axis in sorted(axes)]
    start = np.array([window.start[axis] for axis in order] * 2, np.float32)
    high = np.array([window.size[axis] for axis in order] * 2, np.float32)
    moved = np.clip(boxes.boxes - start, 0, high)
    half = len(order)
    kept = (moved[:, half:] > moved[:, :half]).all(1)
    return Boxes(moved[kept], boxes.classes[kept], None if boxes.scores is None else boxes.scores[kept])


def moved_affine(affine: Array, window: Window) -> Array:
    """Voxel to world for the window's own voxels; spatial axes in the affine's order, x first."""
    moved = np.array(affine, np.float64)
    moved[:3, 3] += moved[:3, : len(window.start)] @ np.asarray(window.start, np.float64)
    return moved
