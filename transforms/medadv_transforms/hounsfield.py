"""From stored values of a CT to Hounsfield units. A rescale states the unit; without one, only values below zero do."""

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .errors import InputError
from .frames import Frame

UNSTATED = "nothing says that the values are Hounsfield units: integers without a rescale, none below 0"

NORMALISED = 1.0
"""An image whose values all lie within this of zero is not in HU: it was normalised."""


def rescaled(stored: NDArray[Any], frame: Frame) -> NDArray[Any]:
    """Rescale stored values, (rows, columns), to HU: exact integers where the rescale is whole."""
    if frame.slope == 1 and frame.intercept == int(frame.intercept) and abs(frame.intercept) < 1 << 24:
        wide: NDArray[Any] = stored.astype(np.int64 if stored.dtype.itemsize > 2 else np.int32)
        return np.asarray(wide + int(frame.intercept))
    return np.asarray(stored * np.float64(frame.slope) + frame.intercept)


def padding_voxels(stored: NDArray[Any], frame: Frame) -> int:
    """Voxels that the header calls padding; their value is kept, and falls to the lattice's low end by clipping."""
    if frame.padding is None:
        return 0
    padding = frame.padding
    if stored.dtype.kind == "i" and padding >= 1 << (8 * stored.dtype.itemsize - 1):
        # Some scanners write the two's complement as an unsigned number.
        padding -= 1 << (8 * stored.dtype.itemsize)
    return int(np.count_nonzero(stored == padding))


def check_hu(values: NDArray[Any]) -> None:
    """Refuse what cannot be HU.  Raises InputError `not-finite` or `not-hu`."""
    if values.dtype.kind == "f" and not np.isfinite(values).all():
        raise InputError("not-finite")
    if values.min() >= -NORMALISED and values.max() <= NORMALISED:
        raise InputError("not-hu", "all values lie between -1 and 1")


def unscaled(frames: Sequence[Frame]) -> bool:
    """Whether the headers leave the unit open: integers of more than 8 bits that no rescale turns into HU."""
    return all((frame.slope, frame.intercept) == (1, 0) for frame in frames) and max(frame.bits for frame in frames) > 8


def in_hu(values: NDArray[Any], unstated: bool, offset: int | None) -> tuple[NDArray[Any], dict[str, Any]]:
    """Values in HU, and the fact to record.

    unstated: nothing in the files says that they are HU: no rescale, none below 0 in the whole series or volume.  offset: what to add to
    such values, None where nobody said.  Raises InputError `not-hu`.
    """
    if not unstated:
        return values, {}
    if offset is None:
        raise InputError("not-hu", UNSTATED)
    return values.astype(np.int64 if values.dtype.itemsize > 2 else np.int32) + offset, {"offset_hu": offset}


def ct_facts(source: str, notes: Sequence[str], *syntaxes: str) -> dict[str, Any]:
    """What every CT says of itself; readers add what they find."""
    facts: dict[str, Any] = {"modality": "ct", "source": source, "warnings": list(notes)}
    if syntaxes:
        facts["transfer_syntaxes"] = list(syntaxes)
    return facts


def header_facts(frames: Sequence[Frame]) -> dict[str, str]:
    """What the headers say of burnt-in text and of lossy compression: one slice that has it is enough, all must say that they have not."""
    said = {}
    for fact, words, yes, no in (
        ("burned_in_annotation", {frame.burned_in for frame in frames}, "YES", "NO"),
        ("lossy_image_compression", {frame.lossy for frame in frames}, "01", "00"),
    ):
        if yes in words or words == {no}:
            said[fact] = yes if yes in words else no
    return said
