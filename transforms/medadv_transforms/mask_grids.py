"""Where a mask lies on the grid of its image: nearest neighbour, exact where voxel centres are shared, refused where it cannot be meant."""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from .errors import InputError
from .loaded import LoadedImage
from .resample import Grid, nearest_index

SAME_VOXEL = 0.02
"""Grids whose voxel centres differ by no more than this many voxels are the same."""

ROUNDING = 0.1
"""... and, where the shapes are the same, differ by no more than rounded headers do."""


def image_grid(like: LoadedImage) -> Grid:
    """The grid that a mask is brought onto; a slice is one voxel deep.  Raises InputError."""
    if like.affine is None:
        raise InputError("missing-position", "the image has no geometry to place a mask on")
    x, y, z = (*like.image.shape[1:], 1)[:3]
    return Grid((x, y, z), like.affine)


def mask_grid(source: Grid, like: LoadedImage, *, voxels: bool) -> Grid:
    """The grid that a mask is taken to lie on: its own, or with `voxels` that of the image's volume.

    A mask of another shape than the volume lies where its affine says. One of the same shape has to be that grid, flipped or with its axes
    exchanged at most.  Raises InputError `label-geometry`.
    """
    native = like.native
    if native is None or sorted(source.shape) != sorted(native.shape):
        return source
    if voxels and source.shape == native.shape:
        return native
    if _turned(source, native):
        return source
    raise InputError("label-geometry")


def _turned(one: Grid, other: Grid) -> bool:
    """Whether every voxel centre of `other` is one of `one`, but for rounding, and none lies outside."""
    places, pitch = _places(one, other)
    inside = (places[:3] >= -ROUNDING) & (places[:3] <= np.array(one.shape)[:, None] - 1 + ROUNDING)
    return bool(np.abs(places - np.rint(places)).max() <= ROUNDING and inside.all() and (np.abs(pitch - 1) < ROUNDING).all())


def _places(one: Grid, other: Grid) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Corners of `other` in voxels of `one`, (4, 8); and how far apart its voxels lie along each axis that has more than one."""
    matrix = np.linalg.inv(one.affine) @ other.affine
    last = np.array(other.shape) - 1
    corners = np.array([[x, y, z, 1] for x in (0, last[0]) for y in (0, last[1]) for z in (0, last[2])], float)
    return matrix @ corners.T, np.abs(matrix[:3, :3]).sum(0)[last > 0]


def onto(values: NDArray[Any], source: Grid, target: Grid, native: Grid) -> tuple[NDArray[Any], list[str]]:
    """Nearest neighbour of `values` (x, y, z) at the voxels of the target; 0 outside. Exact where the grids share voxel centres."""
    matrix = np.linalg.inv(source.affine) @ target.affine
    axes = np.argmax(np.abs(matrix[:3, :3]), axis=0)
    steps = matrix[axes, [0, 1, 2]]
    reach = np.array(target.shape, float)
    along = np.zeros((3, 3))
    along[axes, [0, 1, 2]] = steps
    warnings = [] if _same_voxels(source, native) else ["mask resampled from another grid"]
    if len(set(axes.tolist())) < 3 or (np.abs(matrix[:3, :3] - along) @ reach).max() > SAME_VOXEL:
        return _oblique(values, matrix, target.shape), warnings
    indices, inside = [], []
    for axis in range(3):
        into = int(axes[axis])
        centres = steps[axis] * np.arange(target.shape[axis]) + matrix[into, 3]
        nearest = nearest_index(centres)
        inside.append((nearest >= 0) & (nearest < source.shape[into]))
        indices.append(np.clip(nearest, 0, source.shape[into] - 1))
    covered = inside[0][:, None, None] & inside[1][None, :, None] & inside[2][None, None, :]
    if not covered.any():
        raise InputError("label-no-overlap")
    order = np.argsort(axes)
    placed = values[np.ix_(*(indices[i] for i in order))].transpose(axes)
    if not covered.all():
        warnings.append("mask covers a part of the image")
        placed = np.where(covered, placed, 0)
    return placed, warnings


def _oblique(values: NDArray[Any], matrix: NDArray[np.float64], shape: tuple[int, int, int]) -> NDArray[Any]:
    """Nearest neighbour where the axes of the two grids are not parallel, one plane of the target at a time."""
    placed = np.zeros(shape, values.dtype)
    x, y = np.meshgrid(np.arange(shape[0]), np.arange(shape[1]), indexing="ij")
    hit = False
    for z in range(shape[2]):
        centres = np.tensordot(matrix[:3], np.stack([x, y, np.full_like(x, z), np.ones_like(x)]), 1)
        nearest = nearest_index(centres)
        inside = ((nearest >= 0) & (nearest < np.array(values.shape)[:, None, None])).all(0)
        placed[..., z][inside] = values[tuple(nearest[:, inside])]
        hit = hit or bool(inside.any())
    if not hit:
        raise InputError("label-no-overlap")
    return placed


def _same_voxels(one: Grid, other: Grid) -> bool:
    """Whether the voxel centres of `other` are voxel centres of `one`, its axes running along the same lines at the same pitch."""
    places, pitch = _places(one, other)
    return bool(np.abs(places - np.rint(places)).max() <= SAME_VOXEL and (np.abs(pitch - 1) < 1e-3).all())


def native_grid(like: LoadedImage) -> Grid:
    """The grid of the source: masks drawn on it are not worth a warning when the image itself was resampled."""
    return image_grid(like) if like.native is None else like.native
