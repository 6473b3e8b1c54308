"""Segmentation labels onto the grid of their image: NIfTI, DICOM SEG, and PNG or JPEG masks of photographs."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from . import nifti
from .errors import InputError
from .loaded import LoadedImage
from .picture import UPRIGHT, decoded, opened
from .resample import Grid, nearest_index
from .seg import is_segmentation, read_segmentation

SAME_VOXEL = 0.02
"""Grids whose voxel centres differ by no more than this many voxels are the same."""

JPEG_THRESHOLD = 127
"""Levels above this are foreground in a lossy mask."""

LabelMap = Mapping[str, Sequence[int]]


def read_mask(
    files: Sequence[str | Path], like: LoadedImage, label_map: LabelMap | None = None, *, multilabel: bool = False
) -> tuple[NDArray[np.uint8], list[str]]:
    """Read a mask onto the grid of `like`: class indices (*spatial) uint8, or with `multilabel` (K, *spatial) of 0 and 1.

    files: one NIfTI mask, one DICOM SEG, or for a photograph one PNG or JPEG (JPEG is thresholded at 127). A slice takes the plane
    of the mask that lies where the slice lies.  label_map: class name -> stored values or segment numbers; classes are numbered
    from 1 in its order, all else is 0. Without it stored values are class indices, and a picture of 0 and 255 is 0 and 1.
    Returns the mask and warnings, for example that it was resampled.  Raises InputError.
    """
    if label_map is not None and not label_map:
        raise InputError("label-map")
    if multilabel and label_map is None:
        raise InputError("label-map")
    if len(files) != 1:
        raise InputError("empty-input" if not files else "mixed-series", "a mask is one file")
    path = Path(files[0])
    if like.placement is not None:
        stored = like.placement.mask(_read_picture(path, binary=label_map is None))
        return _classes(stored, label_map, multilabel), []
    grid = _grid(like)
    if nifti.is_nifti(path):
        header, values = nifti.read_voxels(path)
        placed, warnings = _onto(_whole_numbers(values), Grid(header.shape, header.affine), grid, _native(like))
        mask = _classes(placed, label_map, multilabel)
    elif is_segmentation(path):
        mask, warnings = _read_seg(path, like, label_map, multilabel)
    else:
        raise InputError("unsupported-format", "the mask is neither NIfTI nor a DICOM segmentation")
    return (mask[..., 0] if like.spatial_axes == "xy" else mask), warnings


def _read_seg(path: Path, like: LoadedImage, label_map: LabelMap | None, multilabel: bool) -> tuple[NDArray[np.uint8], list[str]]:
    grid = _grid(like)
    segmentation = read_segmentation(path, grid.spacing[2])
    warnings: list[str] = []
    classes = label_map if label_map is not None else {str(n): [n] for n in sorted(segmentation.segments)}
    planes = []
    for numbers in classes.values():
        union = np.zeros(segmentation.grid.shape, np.bool_)
        for number in numbers:
            union |= segmentation.segments.get(number, np.bool_(False))
        placed, warnings = _onto(union, segmentation.grid, grid, _native(like))
        planes.append(placed)
    stacked = np.stack(planes).astype(np.uint8)
    if multilabel:
        return stacked, warnings
    if (stacked.sum(0) > 1).any():
        raise InputError("label-overlap")
    numbering = np.arange(1, len(planes) + 1) if label_map is not None else np.array(sorted(segmentation.segments))
    if numbering.max() > 255:
        raise InputError("label-values")
    return np.asarray(np.tensordot(numbering, stacked, 1), np.uint8), warnings


def _read_picture(path: Path, *, binary: bool) -> NDArray[Any]:
    """A mask picture, upright, as (h, w) integers."""
    with opened(path) as (image, header):
        picture = decoded(image)
        if header.orientation in UPRIGHT:
            picture = picture.transpose(UPRIGHT[header.orientation])
        if header.format == "JPEG":
            # Lossy: only the two sides of a threshold survive.
            return np.where(np.asarray(picture.convert("L")) > JPEG_THRESHOLD, 1 if binary else 255, 0)
        if picture.mode == "1":
            picture = picture.convert("L")
        values = np.asarray(picture)
    if values.ndim == 3:
        colours = values[..., :3] if picture.mode == "RGB" else values
        if picture.mode != "RGB" or not (colours == colours[..., :1]).all():
            raise InputError("label-values", "the mask is a colour picture")
        values = colours[..., 0]
    if binary and values.max() == 255 and np.isin(values, (0, 255)).all():
        values = values // 255
    return values


def _whole_numbers(values: NDArray[Any]) -> NDArray[Any]:
    if values.dtype.kind == "f":
        if not np.isfinite(values).all() or (values != np.rint(values)).any():
            raise InputError("label-values")
        if np.abs(values).max(initial=0) > 2**31 - 1:
            raise InputError("label-values")
        return values.astype(np.int32)
    return values


def _classes(values: NDArray[Any], label_map: LabelMap | None, multilabel: bool) -> NDArray[np.uint8]:
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
