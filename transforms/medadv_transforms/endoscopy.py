"""What an endoscopy frame shows: the optical field (often an octagon) inside a black border, and burnt-in overlays."""

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from .fundus import Field, block_mean, bright_region, label, opened

BLACK = 8.0
"""Levels of the brightest channel up to here are blanked screen, not tissue."""

STROKE = 45
"""How much lighter a stroke of text is than what it is written on (least of the channels)."""

WHITE = 120
"""The least channel of white text, blurred by compression; mucosa is redder."""

INSET_AREA = 0.005
"""A coloured inset covers at least this fraction of the frame."""


def find_field(picture: NDArray[np.uint8]) -> Field:
    """Find the optical field of an endoscopy frame, (h, w) or (h, w, 3) uint8: the smallest octagon around the largest bright region.

    The octagon keeps dark lumens in and text in the black border out; blanked corners and boxes that reach the border are cut out.
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
    return Field(box, _octagon(bright) & ~_blanked(picture, step), {"shape": "octagon"})


def find_overlay(picture: NDArray[np.uint8]) -> NDArray[np.bool_]:
    """Burnt-in lines of text and coloured insets of an endoscopy frame, (h, w) bool, with a margin.

    Text: at least three small white strokes of about one height in a row. Specular highlights have neither its evenness nor its rows.
    """
    overlay = _text(picture) if picture.ndim == 2 else _text(picture.min(axis=2)) | _insets(picture)
    return ndimage.binary_dilation(overlay, iterations=max(1, round(max(overlay.shape) / 300)))


def _text(grey: NDArray[np.uint8]) -> NDArray[np.bool_]:
    longest = max(grey.shape)
    stroke = max(5, round(longest / 80) | 1)
    tallest, shortest = longest / 30, longest / 160
    strokes = (ndimage.white_tophat(grey, size=stroke) > STROKE) & (grey > WHITE)
    letters, _ = label(strokes, structure=np.ones((3, 3)))
    small = np.zeros(grey.shape, np.bool_)
    heights: dict[int, int] = {}
    boxes: list[tuple[slice, slice]] = ndimage.find_objects(letters)
    for number, box in enumerate(boxes, start=1):
        height, width = (axis.stop - axis.start for axis in box)
        if shortest <= height <= tallest and width <= 2.5 * tallest:
            heights[number] = height
            small[box] |= letters[box] == number
    reach = 2 * round(longest / 90) + 1
    lines, _ = label(ndimage.binary_dilation(small, structure=np.ones((1, reach))))
    text = np.zeros(grey.shape, np.bool_)
    places: list[tuple[slice, slice]] = ndimage.find_objects(lines)
    for number, box in enumerate(places, start=1):
        members = np.unique(letters[box] * (lines[box] == number) * small[box])
        members = members[members > 0]
        if len(members) < 3:
            continue
        typical = float(np.median([heights[int(member)] for member in members]))
        height = box[0].stop - box[0].start
        even = np.mean([abs(heights[int(member)] - typical) <= max(2.0, 0.25 * typical) for member in members])
        if height <= 1.8 * typical and even >= 0.6:
            text[box] = True
    return text


def _insets(picture: NDArray[np.uint8]) -> NDArray[np.bool_]:
    """Boxes of a green that tissue does not have, filled with it for the most part."""
    red, green, blue = (picture[..., channel].astype(np.int16) for channel in range(3))
    numbers, _ = label(ndimage.binary_opening((green > red + 60) & (green > blue + 10), iterations=2))
    insets = np.zeros(red.shape, np.bool_)
    boxes: list[tuple[slice, slice]] = ndimage.find_objects(numbers)
    for number, box in enumerate(boxes, start=1):
        inside = numbers[box] == number
        if inside.size >= INSET_AREA * insets.size and inside.mean() > 0.7:
            insets[box] = True
    return insets


def _blanked(picture: NDArray[np.uint8], step: int) -> NDArray[np.bool_]:
    """Black areas that reach the frame's border, in blocks of step x step pixels."""
    grey = picture if picture.ndim == 2 else picture.max(axis=2)
    numbers, _ = label(opened(block_mean(grey, step) <= BLACK, 3))
    border = np.unique(np.concatenate([numbers[0], numbers[-1], numbers[:, 0], numbers[:, -1]]))
    return np.isin(numbers, border[border > 0])


def _octagon(region: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """The smallest octagon with sides along the axes and the diagonals that holds the region."""
    indices = np.indices(region.shape)
    rows, columns = indices[0], indices[1]
    directions: list[NDArray[np.int64]] = [rows, columns, rows + columns, rows - columns]
    inside = np.ones(region.shape, np.bool_)
    for direction in directions:
        values = direction[region]
        inside &= (direction >= values.min()) & (direction <= values.max())
    return inside
