"""What an endoscopy frame shows: the optical field (often an octagon) inside a black border, and burnt-in overlays."""

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from .fundus import Field, bright_region, label


def find_field(picture: NDArray[np.uint8]) -> Field:
    """Find the optical field of an endoscopy frame, (h, w) or (h, w, 3) uint8: the largest bright region, made convex.

    The convex form keeps dark lumens in and cuts the octagon's corners off; text in the black border is no part of it.
    Raises InputError `no-field-of-view`.
    """
    bright, step = bright_region(picture, level=0.1)
    rows, columns = np.flatnonzero(bright.any(1)), np.flatnonzero(bright.any(0))
    height, width = picture.shape[:2]
    box = (
        int(rows[0]) * step,
        int(columns[0]) * step,
        min(height, (int(rows[-1]) + 1) * step),
        min(width, (int(columns[-1]) + 1) * step),
    )
    return Field(box, _octagon(bright), {"shape": "octagon"})


def find_overlay(picture: NDArray[np.uint8]) -> NDArray[np.bool_]:
    """Burnt-in text and boxes of an endoscopy frame, (h, w) bool: thin strokes of one flat, extreme colour, widened by their height."""
    grey = picture if picture.ndim == 2 else picture.max(axis=2)
    size = max(3, round(max(grey.shape) / 80) | 1)
    strokes = (ndimage.white_tophat(grey, size=size) > 90) & (grey > 180)
    labels, count = label(strokes, structure=np.ones((3, 3)))
    if count == 0:
        return np.zeros(grey.shape, np.bool_)
    near = ndimage.binary_dilation(strokes, structure=np.ones((3, 2 * size + 1)))
    words, _ = label(near)
    overlay = np.zeros(grey.shape, np.bool_)
    places: list[tuple[slice, slice]] = ndimage.find_objects(words)
    for index, where in enumerate(places, start=1):
        height, width = (axis.stop - axis.start for axis in where)
        letters = np.count_nonzero(np.unique(labels[where] * (words[where] == index)))
        if letters >= 4 and width >= 3 * height:
            overlay[where] = True
    return ndimage.binary_dilation(overlay, iterations=size)


def _octagon(region: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """The smallest octagon with sides along the axes and the diagonals that holds the region."""
    rows, columns = np.indices(region.shape)
    inside = np.ones(region.shape, np.bool_)
    for direction in (rows, columns, rows + columns, rows - columns):
        values = direction[region]
        inside &= (direction >= values.min()) & (direction <= values.max())
    return inside
