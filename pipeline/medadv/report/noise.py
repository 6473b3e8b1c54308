"""How much does a CT scanner's own noise move a voxel? The standard deviation in flat places, from the images themselves.

After Christianson et al. 2015 (Automated Technique to Measure Noise in Clinical CT Examinations, AJR 205:W93-W99): the standard deviation
in a small window around every voxel, of the windows that lie in soft tissue, and of these the commonest. Here a window lies in soft tissue
where all of it does, after noise was averaged out over three voxels: muscle has fat between its fibres, and on coarse grids windows that
cross some are commoner than flat ones.

Only what varies within a window is seen: streaks and slow drifts are not, and what was resampled or smoothed has less noise than what the
scanner gave.
"""

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
from scipy.ndimage import maximum_filter, minimum_filter, uniform_filter

from medadv.datasets.labels import Array

WINDOW = 5
AVERAGED = 3
"""Side of the squares over which noise is averaged out, to tell what a voxel is of."""
TISSUE = (-30.0, 130.0)
"""Soft tissue, HU: muscle, blood and organs with and without contrast medium, no fat, bone or lung."""
AIR = -950.0
"""Air lies below, HU: lung with its vessels lies above."""
MOST_AT_BOUND = 0.01
"""Share of the voxels of air at the lowest value above which noise was cut off there, so that its deviation says nothing."""
FEWEST = 300
"""Windows that it takes to tell the commonest deviation."""
DENSEST = 0.2
"""The commonest value is the middle of the shortest interval that holds this share of them."""


@dataclass(frozen=True)
class SampleNoise:
    """One image's noise, HU. None where it cannot be told.  at_bound: share of the voxels of air at the lowest value."""

    tissue: float | None
    air: float | None
    at_bound: float | None


def sample_noise(planes: Iterable[Array]) -> SampleNoise:
    """Noise of one sample.  planes: its axial slices, (h, w) each, stored HU."""
    tissue, air, lows, values = [], [], [], []
    for plane in planes:
        lowest, highest, deviation = _windows(plane)
        # Whole numbers that are all the same were not measured by a scanner: padding, masked regions, drawings.
        varies = deviation > 0
        tissue.append(deviation[(lowest >= TISSUE[0]) & (highest <= TISSUE[1]) & varies])
        empty = highest < AIR
        air.append(deviation[empty & varies])
        half = WINDOW // 2
        values.append(plane[half:-half, half:-half][empty])
        lows.append(plane.min())
    inside = np.concatenate(values) if values else np.zeros(0)
    at_bound = float((inside == min(lows)).mean()) if len(inside) else None
    told = at_bound is not None and at_bound < MOST_AT_BOUND
    return SampleNoise(commonest(tissue), commonest(air) if told else None, at_bound)


def _windows(plane: Array) -> tuple[Array, Array, Array]:
    """Of every whole window the lowest and highest voxel, noise averaged out, and the standard deviation; (h - 4, w - 4), or empty."""
    if min(plane.shape) < WINDOW:
        return (np.zeros((0, 0)),) * 3
    # Exact in float64: sums of whole numbers, small beside 2^53.
    wide, count = plane.astype(np.float64), WINDOW**2
    mean, square = (uniform_filter(v, WINDOW) for v in (wide, wide**2))
    variance = (square - mean**2) * count / (count - 1)
    averaged = uniform_filter(wide, AVERAGED)
    found = minimum_filter(averaged, WINDOW), maximum_filter(averaged, WINDOW), np.sqrt(np.where(variance > 1e-6, variance, 0))
    inner = slice(WINDOW // 2, -(WINDOW // 2))
    return found[0][inner, inner], found[1][inner, inner], found[2][inner, inner]


def commonest(parts: Iterable[Array]) -> float | None:
    """The commonest of all values, None of fewer than `FEWEST`: the middle of where they lie densest, without the bias that the deviation
    of so few voxels has (the mode of a chi distribution)."""
    values = np.sort(np.concatenate([np.zeros(0), *(part.ravel() for part in parts)]))
    if len(values) < FEWEST:
        return None
    held = max(2, int(DENSEST * len(values)))
    widths = values[held - 1 :] - values[: len(values) - held + 1]
    start = int(widths.argmin())
    freedom = WINDOW**2 - 1
    return float((values[start] + values[start + held - 1]) / 2 / np.sqrt((freedom - 1) / freedom))
