"""Reorient exactly, resample to a voxel size, and go back: separable, edges clamped, deterministic."""

from dataclasses import dataclass
from typing import Any

import nibabel as nib
import numpy as np
from numpy.typing import NDArray

from .errors import InputError
from .limits import SPACING_MM, check_voxels

Spacing = tuple[float | None, float | None, float | None]
"""Voxel sizes asked for, mm along x, y, z; None for an axis that keeps its own."""


@dataclass(frozen=True, eq=False)
class Grid:
    """A voxel grid: shape (x, y, z) and affine (4, 4) to RAS+ mm."""

    shape: tuple[int, int, int]
    affine: NDArray[np.float64]

    @property
    def spacing(self) -> tuple[float, float, float]:
        """Voxel size along each axis, mm."""
        x, y, z = np.linalg.norm(self.affine[:3, :3], axis=0)
        return float(x), float(y), float(z)


def reoriented(grid: Grid, orientation: str) -> tuple[Grid, NDArray[np.float64]]:
    """The grid with its axes in `orientation` ("RAS", "LPS", ...), and nibabel's orientation transform that leads there."""
    try:
        wanted = nib.orientations.axcodes2ornt(orientation)
    except (ValueError, KeyError):
        wanted = np.full((3, 2), np.nan)
    if wanted.shape != (3, 2) or np.isnan(wanted).any():
        raise ValueError(f"orientation={orientation!r} must name three axes, such as 'RAS'")
    transform = nib.orientations.ornt_transform(nib.orientations.io_orientation(grid.affine), wanted)
    affine = grid.affine @ nib.orientations.inv_ornt_aff(transform, grid.shape)
    shape = [0, 0, 0]
    for axis, (target, _) in enumerate(transform):
        shape[int(target)] = grid.shape[axis]
    return Grid((shape[0], shape[1], shape[2]), np.asarray(affine)), transform


def respaced(grid: Grid, spacing: Spacing) -> Grid:
    """The grid of voxels of `spacing` mm over the same field: outer faces aligned at the first voxel, lengths rounded to whole voxels."""
    if not all(s is None or SPACING_MM[0] <= s <= SPACING_MM[1] for s in spacing):
        raise ValueError(f"spacing={spacing} mm must lie within {SPACING_MM}")
    factors = [1.0 if new is None else new / old for new, old in zip(spacing, grid.spacing, strict=True)]
    shape = tuple(max(1, round(length / factor)) for length, factor in zip(grid.shape, factors, strict=True))
    check_voxels(*shape)
    step = np.diag([*factors, 1.0])
    step[:3, 3] = [(factor - 1) / 2 for factor in factors]
    return Grid((shape[0], shape[1], shape[2]), grid.affine @ step)


def sampled(values: NDArray[Any], source: Grid, target: Grid, *, nearest: bool) -> NDArray[Any]:
    """Values of the source grid (x, y, z) at the voxel centres of a target grid whose axes run along the same ones.

    Linear interpolation in float64 (integers stay exact where centres coincide), or nearest in the dtype of `values`. Outside, the edge.
    """
    matrix = np.linalg.inv(source.affine) @ target.affine
    for axis in range(3):
        centres = matrix[axis, axis] * np.arange(target.shape[axis]) + matrix[axis, 3]
        values = _at_nearest(values, centres, axis) if nearest else _linear(values, centres, axis)
    return values


def restore_grid(values: NDArray[Any], resampling: dict[str, Any], *, nearest: bool = False) -> NDArray[Any]:
    """Bring an array (..., x, y, z) of a resampled or reoriented volume back to its native grid.

    resampling: `facts["resampling"]` of the image.  Linear for images and perturbations (float64 out), nearest for labels.
    """
    native = _grid(resampling["native"])
    upright = _grid(resampling["oriented"])
    stored = _grid(resampling["stored"])
    if values.shape[-3:] != stored.shape:
        raise InputError("size-differs", "the array is not on the stored grid")
    transform = nib.orientations.ornt_transform(
        nib.orientations.io_orientation(upright.affine), nib.orientations.io_orientation(native.affine)
    )
    channels = values.reshape(-1, *stored.shape)
    restored = []
    for channel in channels:
        if stored.shape != upright.shape or not np.allclose(stored.affine, upright.affine):
            channel = sampled(channel, stored, upright, nearest=nearest)
        restored.append(nib.orientations.apply_orientation(channel, transform))
    return np.stack(restored).reshape(*values.shape[:-3], *native.shape)


def resampling_facts(native: Grid, oriented: Grid, stored: Grid) -> dict[str, Any]:
    """JSON record of the three grids; what restore_grid needs."""
    return {
        name: {"shape": list(grid.shape), "affine": grid.affine.tolist()}
        for name, grid in (("native", native), ("oriented", oriented), ("stored", stored))
    }


def _grid(facts: dict[str, Any]) -> Grid:
    x, y, z = (int(length) for length in facts["shape"])
    return Grid((x, y, z), np.array(facts["affine"], np.float64))


def nearest_index(centres: NDArray[np.float64]) -> NDArray[np.int64]:
    """Nearest voxel; half-way between two, the lower one on every machine, whatever the last bit of the affine."""
    return np.ceil(centres - 0.5 - 1e-6).astype(np.int64)


def _at_nearest(values: NDArray[Any], centres: NDArray[np.float64], axis: int) -> NDArray[Any]:
    return np.take(values, np.clip(nearest_index(centres), 0, values.shape[axis] - 1), axis=axis)


def _linear(values: NDArray[Any], centres: NDArray[np.float64], axis: int) -> NDArray[np.float64]:
    centres = np.clip(centres, 0, values.shape[axis] - 1)
    low = np.floor(centres).astype(np.int64)
    high = np.minimum(low + 1, values.shape[axis] - 1)
    shape = [1, 1, 1]
    shape[axis] = -1
    weight = (centres - low).reshape(shape)
    first = np.take(values, low, axis=axis).astype(np.float64)
    return np.asarray(first + (np.take(values, high, axis=axis) - first) * weight)
