"""Segmentation labels onto the grid of their image: NIfTI, DICOM SEG, and mask pictures of photographs; one file, or one a class."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from . import nifti
from .errors import InputError
from .loaded import LoadedImage
from .mask_grids import image_grid, mask_grid, native_grid, onto
from .mask_pictures import IGNORE, Levels, meaning, read_levels
from .resample import Grid
from .seg import is_segmentation, read_segmentation

WHOLE = 1e-3
"""How far a value may lie from a whole number and still be that number, as scaled headers leave it."""

BACKGROUND = "background"
"""Name in a label map for values that are no class."""

LabelMap = Mapping[str, Sequence[int]]


def read_mask(
    files: Sequence[str | Path],
    like: LoadedImage,
    label_map: LabelMap | None = None,
    *,
    multilabel: bool = False,
    threshold: int | None = None,
    white: int | None = None,
    ignore: int | None = None,
    voxels: bool = False,
) -> tuple[NDArray[np.uint8], list[str]]:
    """Read a mask onto the grid of `like`: class indices (*spatial) uint8, or with `multilabel` (K, *spatial) of 0 and 1; 255 is ignored.

    files: one NIfTI mask, one DICOM SEG, or for a photograph one picture (JPEG is cut at 127); or several of them, one of 0 and 1 (255)
    for each class. A slice takes the plane of the mask that lies where the slice lies.
    label_map: class name -> stored values or segment numbers; classes are numbered from 1 in its order, values under `background` and all
    else are 0, but 255 in a picture is ignored unless it is named. Without it stored values are class indices.
    threshold: levels of a picture above it are 1, all others 0.  white: what 255 in a picture stands for, 1 or 255; None: 1 where this one
    picture holds nothing else but 0, which only the whole data set can tell for sure.  ignore: a stored value that is ignored.
    voxels: a mask of the volume's shape lies on its grid, whatever its affine says.
    Returns the mask and warnings, for example that it was resampled.  Raises InputError.
    """
    if (label_map is not None and not label_map) or (multilabel and label_map is None and len(files) < 2):
        raise InputError("label-map")
    if not files:
        raise InputError("empty-input")
    if len(files) > 1 and label_map is not None:
        raise InputError("label-map", "several masks of one image are one a class, which a label map does not rename")
    paths = [Path(file) for file in files]
    if len(paths) > 1:
        read = [_class_mask(path, like, threshold, white, voxels) for path in paths]
        warnings = list(dict.fromkeys(warning for _, found in read for warning in found))
        return _stacked([values == 1 for values, _ in read], [values == IGNORE for values, _ in read], multilabel), warnings
    if like.placement is not None:
        levels = read_levels(paths[0], threshold)
        values = like.placement.mask(meaning(levels, white) if label_map is None else _mapped_levels(levels, label_map))
        return _classes(values, label_map, multilabel, ignore, picture=True), []
    if _is_seg(paths[0]):
        mask, warnings = _read_seg(paths[0], like, label_map, multilabel, voxels)
    else:
        values, warnings = _read_volume(paths[0], like, voxels)
        mask = _classes(values, label_map, multilabel, ignore, picture=False)
        if (mask == IGNORE).any():
            warnings = [*warnings, "voxels of value 255 are ignored"]
    return (mask[..., 0] if like.spatial_axes == "xy" else mask), warnings


def _class_mask(path: Path, like: LoadedImage, threshold: int | None, white: int | None, voxels: bool) -> tuple[NDArray[Any], list[str]]:
    """The mask of one class on the image's grid: 0, 1, and 255 for ignored."""
    warnings: list[str] = []
    if like.placement is not None:
        values = like.placement.mask(meaning(read_levels(path, threshold), white))
    elif _is_seg(path):
        segmentation = read_segmentation(path, image_grid(like).spacing[2])
        union = np.any(list(segmentation.segments.values()), axis=0)
        values, warnings = onto(union, mask_grid(segmentation.grid, like, voxels=voxels), image_grid(like), native_grid(like))
    else:
        values, warnings = _read_volume(path, like, voxels)
    known = (0, 1, IGNORE) if like.placement is not None else (0, 1)
    if odd := np.count_nonzero(~np.isin(values, known)):
        raise InputError("label-values", f"the mask of one class holds other values than 0 and 1 in {odd} places")
    return (values[..., 0] if like.spatial_axes == "xy" else values), warnings


def _is_seg(path: Path) -> bool:
    """Whether a volume's mask is a DICOM segmentation; raises InputError where it is no NIfTI file either."""
    if nifti.is_nifti(path):
        return False
    if path.name.lower().endswith(nifti.FOREIGN_VOLUMES) or not is_segmentation(path):
        raise InputError("unsupported-format", "the mask is neither NIfTI nor a DICOM segmentation")
    return True


def _read_volume(path: Path, like: LoadedImage, voxels: bool) -> tuple[NDArray[Any], list[str]]:
    header, stored = nifti.read_voxels(path)
    values, notes = _whole_numbers(stored)
    own = mask_grid(Grid(header.shape, header.affine), like, voxels=voxels)
    placed, warnings = onto(values, own, image_grid(like), native_grid(like))
    return placed, notes + warnings


def _read_seg(
    path: Path, like: LoadedImage, label_map: LabelMap | None, multilabel: bool, voxels: bool
) -> tuple[NDArray[np.uint8], list[str]]:
    grid = image_grid(like)
    segmentation = read_segmentation(path, grid.spacing[2])
    own = mask_grid(segmentation.grid, like, voxels=voxels)
    warnings: list[str] = []
    named = {name: numbers for name, numbers in label_map.items() if name != BACKGROUND} if label_map is not None else None
    classes = named if named is not None else {str(n): [n] for n in sorted(segmentation.segments)}
    planes = []
    for numbers in classes.values():
        union = np.zeros(segmentation.grid.shape, np.bool_)
        for number in numbers:
            union |= segmentation.segments.get(number, np.bool_(False))
        placed, warnings = onto(union, own, grid, native_grid(like))
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


def _mapped_levels(levels: Levels, label_map: LabelMap) -> NDArray[Any]:
    """Levels as a label map names them: the foreground of a JPEG is 255, or 1 where the map speaks of that."""
    if not levels.binary:
        return levels.values
    named = {number for numbers in label_map.values() for number in numbers}
    foreground = next((number for number in (IGNORE, 1) if number in named), None)
    if foreground is None and levels.values.any():
        raise InputError("label-values", "a JPEG mask is 0 and 255, and label_map names neither 255 nor 1")
    return levels.values * np.uint8(foreground or 0)


def _whole_numbers(values: NDArray[Any]) -> tuple[NDArray[Any], list[str]]:
    """Whole numbers, and a note where they were not quite.  Raises InputError `label-values`."""
    if values.dtype.kind != "f":
        return values, []
    if not np.isfinite(values).all() or np.abs(values).max(initial=0) > 2**31 - 1:
        raise InputError("label-values")
    whole = np.rint(values)
    farthest = float(np.abs(values - whole).max(initial=0))
    if farthest > WHOLE:
        raise InputError("label-values", "mask values lie between whole numbers")
    return whole.astype(np.int32), ["mask values rounded to whole numbers"] if farthest > 0 else []


def _classes(
    values: NDArray[Any], label_map: LabelMap | None, multilabel: bool, ignore: int | None, *, picture: bool
) -> NDArray[np.uint8]:
    ignored = values == ignore if ignore is not None else np.zeros(values.shape, np.bool_)
    if label_map is None:
        if values.min() < 0 or values.max() > 255:
            raise InputError("label-values")
        return np.ascontiguousarray(np.where(ignored, IGNORE, values), np.uint8)
    if picture and not any(IGNORE in numbers for numbers in label_map.values()):
        ignored |= values == IGNORE
    planes = [np.isin(values, list(numbers)) & ~ignored for name, numbers in label_map.items() if name != BACKGROUND]
    if not planes:
        raise InputError("label-map")
    return _stacked(planes, [ignored] * len(planes), multilabel)


def _stacked(planes: Sequence[NDArray[np.bool_]], ignored: Sequence[NDArray[np.bool_]], multilabel: bool) -> NDArray[np.uint8]:
    """One mask of a mask per class; ignored where one is ignored and no other is there.  Raises InputError `label-overlap`."""
    stacked = np.stack(planes).astype(np.uint8)
    if multilabel:
        stacked[np.stack(ignored)] = IGNORE
        return stacked
    if (stacked.sum(0) > 1).any():
        raise InputError("label-overlap")
    if len(planes) >= IGNORE:
        raise InputError("label-values", "more classes than a mask of 8 bits holds")
    mask = np.tensordot(np.arange(1, len(planes) + 1), stacked, 1).astype(np.uint8)
    mask[np.any(ignored, 0) & (mask == 0)] = IGNORE
    return mask
