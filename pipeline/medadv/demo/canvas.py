"""A volume painted organ by organ: surfaces as signed distances in mm, with edges as soft as a voxel is wide."""

from typing import Self

import numpy as np
from numpy.typing import NDArray

Field = NDArray[np.float32]
"""Values on the grid, broadcastable to (x, y, z). Distances to a surface are in mm and negative inside."""

Point = NDArray[np.float64]
"""x, y, z in mm."""


class Canvas:
    """An HU volume in patient coordinates about its centre: x to the left, y to the back, z to the head, in mm.

    x, y, z: the voxels' centres, each broadcastable to the volume.  hu: (x, y, z) float32, air at first.
    """

    def __init__(self, shape: tuple[int, int, int], spacing_mm: tuple[float, float, float]) -> None:
        centres = [(np.arange(n) - (n - 1) / 2) * mm for n, mm in zip(shape, spacing_mm, strict=True)]
        self.x, self.y, self.z = (axis.astype(np.float32) for axis in np.meshgrid(*centres, indexing="ij", sparse=True))
        self.shape, self.spacing_mm = shape, spacing_mm
        self.softness = np.float32(spacing_mm[0])
        self.hu: Field = np.full(shape, -1000, dtype=np.float32)

    def fill(self, distance: Field, values: Field | float) -> Self:
        """Paint the inside of a surface over what is there."""
        self.hu += self.cover(distance) * (np.asarray(values, dtype=np.float32) - self.hu)
        return self

    def cover(self, distance: Field) -> Field:
        """How much of each voxel lies inside a surface, in [0, 1]."""
        return np.asarray(np.clip(np.float32(0.5) - distance / self.softness, 0, 1), dtype=np.float32)

    def ellipse(self, centre: tuple[float, float], radii: tuple[float | Field, float | Field], exponent: float = 2.0) -> Field:
        """A column along the body: an ellipse, or with a larger exponent a rounded rectangle, in every slice."""
        u, v = np.abs(self.x - centre[0]) / radii[0], np.abs(self.y - centre[1]) / radii[1]
        return np.asarray(((u**exponent + v**exponent) ** (1 / exponent) - 1) * np.minimum(*radii), dtype=np.float32)

    def ellipsoid(self, centre: tuple[float, float, float], radii: tuple[float, float, float]) -> Field:
        u, v, w = (self.x - centre[0]) / radii[0], (self.y - centre[1]) / radii[1], (self.z - centre[2]) / radii[2]
        return np.asarray((np.sqrt(u**2 + v**2 + w**2) - 1) * min(radii), dtype=np.float32)

    def rod(self, start: tuple[float, float], end: tuple[float, float], radius: float) -> Field:
        """A plate along the body: in every slice, the points within `radius` of a line."""
        along = np.array(end) - np.array(start)
        share = ((self.x - start[0]) * along[0] + (self.y - start[1]) * along[1]) / float(along @ along)
        share = np.clip(share, 0, 1)
        distance = np.hypot(self.x - start[0] - share * along[0], self.y - start[1] - share * along[1])
        return np.asarray(distance - radius, dtype=np.float32)

    def fill_tube(self, start: Point, end: Point, radius: float, value: float, within: Field) -> None:
        """Paint a round tube between two points, where `within` (1 inside, 0 outside, on the whole grid) allows it."""
        reach = radius + 2 * float(self.softness)
        window = tuple(
            slice(*np.searchsorted(axis.ravel(), (min(a, b) - reach, max(a, b) + reach)))
            for axis, a, b in zip((self.x, self.y, self.z), start, end, strict=True)
        )
        x, y, z = self.x[window[0]] - start[0], self.y[:, window[1]] - start[1], self.z[:, :, window[2]] - start[2]
        along = end - start
        share = np.clip((x * along[0] + y * along[1] + z * along[2]) / max(float(along @ along), 1e-6), 0, 1)
        squares = (x - share * along[0]) ** 2 + (y - share * along[1]) ** 2 + (z - share * along[2]) ** 2
        cover = self.cover(np.asarray(np.sqrt(squares) - radius, dtype=np.float32)) * within[window]
        self.hu[window] += cover * (np.float32(value) - self.hu[window])
