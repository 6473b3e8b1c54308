"""From the stored values of a mask to classes: indices, or one plane of 0 and 1 a class; 255 is ignored."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .errors import InputError
from .mask_pictures import IGNORE, Levels

LabelMap = Mapping[str, Sequence[int]]

BACKGROUND = "background"
"""Name in a label map for values that are no class."""


def classes_of(
    values: NDArray[Any], label_map: LabelMap | None, multilabel: bool, ignore: int | None = None, *, picture: bool = False
) -> NDArray[np.uint8]:
    """Class indices of stored values, or with `multilabel` one plane of 0 and 1 a class; what `ignore` stands at is 255.

    picture: 255 is ignored unless the label map names it.  Raises InputError.
    """
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
    return stacked_classes(planes, [ignored] * len(planes), multilabel)


def one_class(values: NDArray[Any], *, ignored: bool) -> NDArray[np.bool_]:
    """Where the mask of one class holds 1; with `ignored` it may hold 255, too.  Raises InputError `label-values` for other values."""
    known = (0, 1, IGNORE) if ignored else (0, 1)
    if odd := np.count_nonzero(~np.isin(values, known)):
        raise InputError("label-values", f"the mask of one class holds other values than 0 and 1 in {odd} places")
    return np.asarray(values == 1)


def stacked_classes(planes: Sequence[NDArray[np.bool_]], ignored: Sequence[NDArray[np.bool_]], multilabel: bool) -> NDArray[np.uint8]:
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


def mapped_levels(levels: Levels, label_map: LabelMap) -> NDArray[Any]:
    """Levels as a label map names them: the foreground of a JPEG is 255, or 1 where the map speaks of that.  Raises InputError."""
    if not levels.binary:
        return levels.values
    named = {number for numbers in label_map.values() for number in numbers}
    foreground = next((number for number in (IGNORE, 1) if number in named), None)
    if foreground is None and levels.values.any():
        raise InputError("label-values", "a JPEG mask is 0 and 255, and label_map names neither 255 nor 1")
    return levels.values * np.uint8(foreground or 0)
