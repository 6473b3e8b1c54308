"""Order the slices of a series along their normal, and refuse what is not one regular, rectangular stack."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from .errors import InputError
from .frames import Frame
from .limits import MAX_FRAMES, check_voxels

SAME_POSITION_MM = 0.01
"""Slices closer than this along the normal lie at one position."""

SPACING_TOLERANCE = 0.02
"""How far a slice may lie from its place in the regular stack, as a fraction of the spacing."""

ROUNDING_MM = 0.06
"""... or in millimetres, whichever is more: positions rounded to 0.1 mm are 0.05 mm off."""

SHIFT_TOLERANCE_MM = 0.1
"""How far a slice may be shifted sideways before the stack counts as tilted; rounded positions are 0.07 mm off."""

SHIFT_TOLERANCE_SLOPE = 1e-3
"""... plus this for each millimetre along the stack, for rounded direction cosines."""

TILT_DEGREES = 0.05
"""A stated gantry tilt below this is none."""

SAME_DIRECTION = 1e-4
"""How far direction cosines may differ between slices of one stack."""

DEFAULT_THICKNESS_MM = 1.0
"""Extent along z of a single slice whose header gives none; only in the affine of a two-dimensional sample."""

LPS_TO_RAS = np.diag([-1.0, -1.0, 1.0, 1.0])


@dataclass(frozen=True, eq=False)
class Stack:
    """Slices in order along the normal.  spacing_z: mm between them, None when they are not evenly spaced."""

    frames: tuple[Frame, ...]
    spacing_z: float | None

    @property
    def shape(self) -> tuple[int, int, int]:
        """(x, y, z)."""
        rows, columns = self.frames[0].size
        return columns, rows, len(self.frames)

    def affine(self, first: int = 0) -> NDArray[np.float64]:
        """(4, 4), voxel (column, row, slice - first) to RAS+ mm."""
        frame = self.frames[first]
        step = self.spacing_z or frame.thickness or frame.step or DEFAULT_THICKNESS_MM
        affine = np.eye(4)
        affine[:3, 0] = frame.directions[0] * frame.spacing[0]
        affine[:3, 1] = frame.directions[1] * frame.spacing[1]
        affine[:3, 2] = frame.normal * step
        affine[:3, 3] = frame.position
        return np.asarray(LPS_TO_RAS @ affine)


def stacked(frames: Sequence[Frame], *, even: bool) -> Stack:
    """Sort and check the frames of one series.

    even: also demand that they fill a regular stack without gaps (a volume); otherwise each is a sample by itself.
    Raises InputError with the first fault found.
    """
    if not frames:
        raise InputError("empty-input")
    if len(frames) > MAX_FRAMES:
        raise InputError("too-large", "the series has more slices than the limit")
    first = frames[0]
    check_voxels(first.size[1], first.size[0], len(frames))
    _check_same(frames)
    normal = first.normal / np.linalg.norm(first.normal)
    heights = np.array([float(normal @ frame.position) for frame in frames])
    order = np.argsort(heights, kind="stable")
    heights = heights[order]
    ordered = tuple(frames[i] for i in order)
    if len(ordered) == 1:
        spacing = first.step or first.thickness
        if even and spacing is None:
            raise InputError("missing-position", "a single slice states neither thickness nor spacing, so it is no volume")
        return Stack(ordered, spacing)
    if np.diff(heights).min() < SAME_POSITION_MM:
        raise InputError("duplicate-position")
    _check_upright(ordered, normal, heights)
    try:
        return Stack(ordered, _even_spacing(ordered, heights))
    except InputError:
        if even:
            raise
        return Stack(ordered, None)


def _check_same(frames: Sequence[Frame]) -> None:
    first = frames[0]
    if len({frame.series for frame in frames}) > 1:
        raise InputError("mixed-series")
    if len({frame.frame_of_reference for frame in frames}) > 1:
        raise InputError("frame-of-reference-differs")
    for frame in frames:
        if frame.size != first.size:
            raise InputError("size-differs", "the slices have different sizes")
        if np.abs(frame.directions - first.directions).max() > SAME_DIRECTION:
            raise InputError("orientation-differs")
        if not np.allclose(frame.spacing, first.spacing, rtol=1e-4, atol=0):
            raise InputError("spacing-differs")
        if frame.slope != first.slope:
            raise InputError("slope-differs")


def _check_upright(frames: Sequence[Frame], normal: NDArray[np.float64], heights: NDArray[np.float64]) -> None:
    positions = np.array([frame.position for frame in frames])
    sideways = positions - positions[0] - np.outer(heights - heights[0], normal)
    allowed = SHIFT_TOLERANCE_MM + SHIFT_TOLERANCE_SLOPE * (heights - heights[0])
    if (np.linalg.norm(sideways, axis=1) > allowed).any():
        raise InputError("gantry-tilt")
    if any(abs(frame.tilt) > TILT_DEGREES for frame in frames):
        raise InputError("gantry-tilt", "the header states a gantry tilt that the positions do not show")


def _even_spacing(frames: Sequence[Frame], heights: NDArray[np.float64]) -> float:
    gaps = np.diff(heights)
    smallest = float(gaps.min())
    if gaps.max() >= 1.5 * smallest:
        multiples = gaps / smallest
        whole = np.abs(multiples - np.rint(multiples)) <= max(0.1, 2 * ROUNDING_MM / smallest)
        raise InputError("missing-slices" if whole.all() else "uneven-spacing")
    spacing = float(heights[-1] - heights[0]) / len(gaps)
    # Against the line of best fit: the first and last position are rounded as well.
    places = np.arange(len(heights))
    regular = np.polynomial.Polynomial.fit(places, heights, 1)(places)
    if np.abs(heights - regular).max() > max(SPACING_TOLERANCE * spacing, ROUNDING_MM):
        raise InputError("uneven-spacing")
    stated = frames[0].step
    if stated is not None and spacing >= 1.5 * stated:
        raise InputError("missing-slices", "the slices lie further apart than the header states")
    return spacing
