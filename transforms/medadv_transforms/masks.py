"""Segmentation labels onto the grid of their image: NIfTI, DICOM SEG, and PNG or JPEG masks of photographs."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .errors import InputError
from .loaded import LoadedImage
from .mask_volume import LabelMap, MaskVolume, classes_of
from .picture import UPRIGHT, decoded, opened

JPEG_THRESHOLD = 127
"""Levels above this are foreground in a lossy mask."""


def read_mask(
    files: Sequence[str | Path], like: LoadedImage, label_map: LabelMap | None = None, *, multilabel: bool = False
) -> tuple[NDArray[np.uint8], list[str]]:
    """Read a mask onto the grid of `like`: class indices (*spatial) uint8, or with `multilabel` (K, *spatial) of 0 and 1.

    files: one NIfTI mask, one DICOM SEG, or for a photograph one PNG or JPEG (JPEG is thresholded at 127). A slice takes the plane
    of the mask that lies where the slice lies.  label_map: class name -> stored values or segment numbers; classes are numbered
    from 1 in its order, all else is 0. Without it stored values are class indices, and a picture of 0 and 255 is 0 and 1.
    Returns the mask and warnings, for example that it was resampled.  Raises InputError.
    """
    if like.placement is None:
        return open_mask(files, like, label_map, multilabel=multilabel).onto(like)
    path = _checked(files, label_map, multilabel)
    stored = like.placement.mask(_read_picture(path, binary=label_map is None))
    return classes_of(stored, label_map, multilabel), []


def open_mask(
    files: Sequence[str | Path], like: LoadedImage, label_map: LabelMap | None = None, *, multilabel: bool = False
) -> MaskVolume:
    """A mask that several slices of one CT are to share, decoded once; arguments and errors as those of `read_mask`."""
    return MaskVolume(_checked(files, label_map, multilabel), like, label_map, multilabel=multilabel)


def _checked(files: Sequence[str | Path], label_map: LabelMap | None, multilabel: bool) -> Path:
    if label_map is not None and not label_map:
        raise InputError("label-map")
    if multilabel and label_map is None:
        raise InputError("label-map")
    if len(files) != 1:
        raise InputError("empty-input" if not files else "mixed-series", "a mask is one file")
    return Path(files[0])


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
