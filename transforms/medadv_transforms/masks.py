"""Segmentation labels onto the grid of their image: NIfTI, DICOM SEG, and mask pictures of photographs; one file, or one a class."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from .errors import InputError
from .loaded import LoadedImage
from .mask_classes import LabelMap, classes_of, mapped_levels, one_class, stacked_classes
from .mask_pictures import IGNORE, meaning, read_levels
from .mask_volume import MaskVolume


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
    if like.placement is None:
        return open_mask(files, like, label_map, multilabel=multilabel, ignore=ignore, voxels=voxels).onto(like)
    paths = _checked(files, label_map, multilabel)
    if len(paths) > 1:
        found = [like.placement.mask(meaning(read_levels(path, threshold), white)) for path in paths]
        planes = [one_class(values, ignored=True) for values in found]
        return stacked_classes(planes, [values == IGNORE for values in found], multilabel), []
    levels = read_levels(paths[0], threshold)
    stored = like.placement.mask(meaning(levels, white) if label_map is None else mapped_levels(levels, label_map))
    return classes_of(stored, label_map, multilabel, ignore, picture=True), []


def open_mask(
    files: Sequence[str | Path],
    like: LoadedImage,
    label_map: LabelMap | None = None,
    *,
    multilabel: bool = False,
    ignore: int | None = None,
    voxels: bool = False,
) -> MaskVolume:
    """A mask that several slices of one CT are to share, decoded once; arguments and errors as those of `read_mask`."""
    return MaskVolume(_checked(files, label_map, multilabel), like, label_map, multilabel=multilabel, ignore=ignore, voxels=voxels)


def _checked(files: Sequence[str | Path], label_map: LabelMap | None, multilabel: bool) -> list[Path]:
    if (label_map is not None and not label_map) or (multilabel and label_map is None and len(files) < 2):
        raise InputError("label-map")
    if not files:
        raise InputError("empty-input")
    if len(files) > 1 and label_map is not None:
        raise InputError("label-map", "several masks of one image are one a class, which a label map does not rename")
    return [Path(file) for file in files]
