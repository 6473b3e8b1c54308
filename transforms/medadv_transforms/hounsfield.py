"""Whether stored numbers are Hounsfield units. A rescale says so; without one, only values below zero do."""

from collections.abc import Sequence
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from . import nifti
from .errors import InputError
from .frames import frames_of, read_dataset
from .pixels import PixelSource

UNSTATED = "nothing says that the values are Hounsfield units: integers without a rescale, none below 0"


def in_hu(values: NDArray[Any], unstated: bool, offset: int | None) -> tuple[NDArray[Any], dict[str, Any]]:
    """Values in HU, and the fact to record.

    unstated: nothing in the file says that they are HU: integers of more than 8 bits without a rescale, none below 0.  offset: what to add
    to such values, None where nobody said.  Raises InputError `not-hu`.
    """
    if not unstated:
        return values, {}
    if offset is None:
        raise InputError("not-hu", UNSTATED)
    return values.astype(np.int64 if values.dtype.itemsize > 2 else np.int32) + offset, {"offset_hu": offset}


def says_hu(paths: Sequence[Path], *, allow_burned_in: bool = False) -> bool:
    """Whether a NIfTI file or the files of a series say that they hold HU; reads as few voxels as it takes.  Raises InputError."""
    nifti.refuse_foreign(paths[0])
    try:
        stamps = tuple((status.st_size, status.st_mtime_ns) for status in (path.stat() for path in paths))
    except OSError:
        raise InputError("not-found") from None
    return _says_hu(tuple(paths), stamps, allow_burned_in)


@lru_cache(maxsize=256)
def _says_hu(paths: tuple[Path, ...], _: tuple[tuple[int, int], ...], allow_burned_in: bool) -> bool:
    # Slices of one series ask one after another: what holds for the series is found out once.
    if nifti.is_nifti(paths[0]):
        return nifti.says_hu(paths[0])
    frames = [
        frame for path in paths for frame in frames_of(read_dataset(path, pixels=False), path, allow_burned_in=allow_burned_in)
    ]
    if any((frame.slope, frame.intercept) != (1, 0) for frame in frames):
        return True
    for path in paths:
        source = PixelSource(read_dataset(path, pixels=True), path)
        if source.stored <= 8:
            return True
        if source.signed and any(source.frame(frame.index).min() < 0 for frame in frames if frame.path == path):
            return True
    return False
