"""The field of view of a fundus photograph: a bright disc, often cut off above and below, on a nearly black ground."""

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from .errors import InputError

ANALYSIS_SIZE = 384
"""The longest side, in pixels, of the image on which the field is sought."""

MIN_FIELD = 0.15
"""A field smaller than this fraction of the picture is a detection failure, not a field."""


@dataclass(frozen=True, eq=False)
class Field:
    """What the instrument shows.

    box: (top, left, bottom, right) in pixels of the picture searched.  mask: bool, the whole frame at the resolution of the search.
    facts: JSON values for the record.
    """

    box: tuple[int, int, int, int]
    mask: NDArray[np.bool_]
    facts: dict[str, Any]


def find_field(picture: NDArray[np.uint8]) -> Field:
    """Find the field of view of a fundus photograph, (h, w) or (h, w, 3) uint8.

    The largest region brighter than the ground is fitted with a circle through its edge points that do not lie on the picture's
    border; the mask is that disc. Raises InputError `no-field-of-view` when nothing stands out.
    """
    bright, step = bright_region(picture, level=0.12)
    rows, columns = np.flatnonzero(bright.any(1)), np.flatnonzero(bright.any(0))
    height, width = picture.shape[:2]
    top, left = int(rows[0]) * step, int(columns[0]) * step
    bottom, right = min(height, (int(rows[-1]) + 1) * step), min(width, (int(columns[-1]) + 1) * step)
    disc = _disc(bright)
    facts: dict[str, Any] = {"shape": "disc" if disc is not None else "region"}
    return Field((top, left, bottom, right), bright if disc is None else disc, facts)


def bright_region(picture: NDArray[np.uint8], level: float) -> tuple[NDArray[np.bool_], int]:
    """The largest connected region above `level` of the picture's bright end, holes filled, on every `step`-th block's mean.

    Returns the region, covering the whole frame in blocks of step x step pixels (the last ones cut off), and the step.
    """
    grey = picture if picture.ndim == 2 else picture.max(axis=2)
    step = max(1, -(-max(grey.shape) // ANALYSIS_SIZE))
    small = block_mean(grey, step)
    threshold = max(8.0, level * float(np.percentile(small, 98)))
    labels, count = label(opened(small > threshold, 2))
    if count == 0:
        raise InputError("no-field-of-view")
    sizes = np.bincount(labels.ravel())
    region = ndimage.binary_fill_holes(labels == int(np.argmax(sizes[1:])) + 1)
    if region.mean() < MIN_FIELD:
        raise InputError("no-field-of-view", "the brightest region is too small to be a field of view")
    return region, step


def label(mask: NDArray[np.bool_], structure: NDArray[Any] | None = None) -> tuple[NDArray[np.int32], int]:
    """Number the connected regions of a mask from 1; returns the numbers (same shape) and how many there are."""
    numbers = np.zeros(mask.shape, np.int32)
    count = ndimage.label(mask, structure=structure, output=numbers)
    return numbers, int(count)


def opened(mask: NDArray[np.bool_], radius: int) -> NDArray[np.bool_]:
    """Morphological opening by a square; the mask goes on beyond the picture's border as it is there."""
    square = np.ones((2 * radius + 1, 2 * radius + 1), np.bool_)
    padded = np.pad(mask, 2 * radius, mode="edge")
    return np.asarray(ndimage.binary_opening(padded, structure=square)[2 * radius : -2 * radius, 2 * radius : -2 * radius])


def block_mean(grey: NDArray[np.uint8], step: int) -> NDArray[np.float64]:
    """Mean of every block of step x step pixels; the last ones may be cut off."""
    rows, columns = np.arange(0, grey.shape[0], step), np.arange(0, grey.shape[1], step)
    sums = np.add.reduceat(np.add.reduceat(grey.astype(np.float64), rows, axis=0), columns, axis=1)
    counts = np.outer(np.diff(np.append(rows, grey.shape[0])), np.diff(np.append(columns, grey.shape[1])))
    return sums / counts


def _disc(region: NDArray[np.bool_]) -> NDArray[np.bool_] | None:
    """The disc whose edge the region follows; None where no circle fits (a picture without dark corners, a square field)."""
    edge = region & ~ndimage.binary_erosion(region, border_value=1)
    edge[[0, -1], :] = False
    edge[:, [0, -1]] = False
    y, x = np.nonzero(edge)
    # Straight cuts above and below belong to no circle: two rounds of dropping what lies far from the fit.
    for _ in range(3):
        if len(x) < 30:
            return None
        system = np.stack([x, y, np.ones_like(x)], 1).astype(np.float64)
        (a, b, c), *_ = np.linalg.lstsq(system, (x**2 + y**2).astype(np.float64), rcond=None)
        radius = float(np.sqrt(max(0.0, c + (a / 2) ** 2 + (b / 2) ** 2)))
        distance = np.abs(np.hypot(x - a / 2, y - b / 2) - radius)
        near = distance <= max(2.0, 2 * float(np.median(distance)))
        x, y = x[near], y[near]
    rows, columns = np.indices(region.shape)
    disc: NDArray[np.bool_] = np.hypot(columns - a / 2, rows - b / 2) <= radius
    disagreement = np.count_nonzero(disc ^ region) / np.count_nonzero(region)
    return disc if disagreement < 0.05 else None
