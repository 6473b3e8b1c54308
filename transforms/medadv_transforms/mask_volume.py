"""A mask of a volume: decoded once, and laid onto one image after the other."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from . import nifti
from .errors import InputError
from .loaded import LoadedImage
from .resample import Grid, nearest_index
from .seg import is_segmentation, read_segmentation

SAME_VOXEL = 0.02
"""Grids whose voxel centres differ by no more than this many voxels are the same."""

LabelMap = Mapping[str, Sequence[int]]

BITS = 8
"""Classes of a DICOM segmentation that share one array, a bit each: they may overlap."""


class MaskVolume:
    """A NIfTI mask or DICOM SEG, for a whole volume or for each of its slices.

    The file is read when it is made, and not looked at again.
    """

    def __init__(self, path: Path, like: LoadedImage, label_map: LabelMap | None = None, *, multilabel: bool = False) -> None:
        """like: one of the images; its slice distance stands in where a segmentation tells none.  Raises InputError."""
        self._label_map, self._multilabel = label_map, multilabel
        self._assumed_mm: float | None = None
        grid = _grid(like)
        if nifti.is_nifti(path):
            header, values = nifti.read_voxels(path)
            self._layers, self._source = [_small(_whole_numbers(values))], Grid(header.shape, header.affine)
            self._numbering: NDArray[np.int64] | None = None
        elif is_segmentation(path):
            found = read_segmentation(path, grid.spacing[2])
            self._assumed_mm = found.assumed_mm
            stored = sorted(set(found.numbers))
            groups = [[number] for number in stored] if label_map is None else list(label_map.values())
            self._numbering = np.array(stored) if label_map is None else np.arange(1, len(groups) + 1)
            self._layers = [found.bits(groups[first : first + BITS]) for first in range(0, len(groups), BITS)]
            self._source = found.grid
        else:
            raise InputError("unsupported-format", "the mask is neither NIfTI nor a DICOM segmentation")

    @property
    def nbytes(self) -> int:
        """Bytes that it holds."""
        return sum(layer.nbytes for layer in self._layers)

    def fits(self, like: LoadedImage) -> bool:
        """Whether reading the file for this image would have given the same."""
        return self._assumed_mm in (None, _grid(like).spacing[2])

    def onto(self, like: LoadedImage) -> tuple[NDArray[np.uint8], list[str]]:
        """The mask on an image's grid, and warnings, as `read_mask` gives them.  Raises InputError."""
        grid, native = _grid(like), _native(like)
        placed = [_onto(layer, self._source, grid, native) for layer in self._layers]
        warnings = placed[0][1]
        if self._numbering is None:
            mask = classes_of(placed[0][0], self._label_map, self._multilabel)
        else:
            mask = self._classes([values for values, _ in placed], self._numbering)
        return (mask[..., 0] if like.spatial_axes == "xy" else mask), warnings

    def _classes(self, layers: Sequence[NDArray[Any]], numbering: NDArray[np.int64]) -> NDArray[np.uint8]:
        planes = np.stack([layers[number // BITS] >> number % BITS & 1 for number in range(len(numbering))])
        if self._multilabel:
            return planes
        if (planes.sum(0) > 1).any():
            raise InputError("label-overlap")
        if numbering.max() > 255:
            raise InputError("label-values")
        return np.asarray(np.tensordot(numbering, planes, 1), np.uint8)


def _whole_numbers(values: NDArray[Any]) -> NDArray[Any]:
    if values.dtype.kind == "f":
        if not np.isfinite(values).all() or (values != np.rint(values)).any():
            raise InputError("label-values")
        if np.abs(values).max(initial=0) > 2**31 - 1:
            raise InputError("label-values")
        return values.astype(np.int32)
    return values


def _small(values: NDArray[Any]) -> NDArray[Any]:
    """The same whole numbers in a byte each, where they fit: masks come in types of up to eight."""
    if values.dtype.itemsize > 1 and values.min() >= 0 and values.max() <= 255:
        return values.astype(np.uint8)
    return values


def classes_of(values: NDArray[Any], label_map: LabelMap | None, multilabel: bool) -> NDArray[np.uint8]:
    """Class indices of stored values, or with `multilabel` one plane of 0 and 1 a class.  Raises InputError."""
    if label_map is None:
        if values.min() < 0 or values.max() > 255:
            raise InputError("label-values")
        return np.ascontiguousarray(values, np.uint8)
    planes = np.stack([np.isin(values, list(numbers)) for numbers in label_map.values()])
    if multilabel:
        return planes.astype(np.uint8)
    if (planes.sum(0) > 1).any():
        raise InputError("label-overlap")
    return np.asarray(np.tensordot(np.arange(1, len(planes) + 1), planes, 1), np.uint8)


def _onto(values: NDArray[Any], source: Grid, target: Grid, native: Grid) -> tuple[NDArray[Any], list[str]]:
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
    matrix = np.linalg.inv(one.affine) @ other.affine
    last = np.array(other.shape) - 1
    corners = np.array([[x, y, z, 1] for x in (0, last[0]) for y in (0, last[1]) for z in (0, last[2])], float)
    places = matrix @ corners.T
    pitch = np.abs(matrix[:3, :3]).sum(0)[last > 0]
    return bool(np.abs(places - np.rint(places)).max() <= SAME_VOXEL and (np.abs(pitch - 1) < 1e-3).all())


def _grid(like: LoadedImage) -> Grid:
    if like.affine is None:
        raise InputError("missing-position", "the image has no geometry to place a mask on")
    x, y, z = (*like.image.shape[1:], 1)[:3]
    return Grid((x, y, z), like.affine)


def _native(like: LoadedImage) -> Grid:
    """The grid of the source: masks drawn on it are not worth a warning when the image itself was resampled."""
    if "resampling" not in like.facts:
        return _grid(like)
    native = like.facts["resampling"]["native"]
    return Grid(tuple(native["shape"]), np.array(native["affine"]))
