"""Stored units and their lattices: the integers that images, perturbations and epsilon live on."""

from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from .errors import InputError

Unit = Literal["hu", "level8"]


@dataclass(frozen=True)
class Lattice:
    """The valid integers of one stored unit, both ends included."""

    unit: str
    dtype: str
    low: int
    high: int


LATTICES: dict[str, Lattice] = {
    "hu": Lattice("hu", "int16", -1024, 3071),
    "level8": Lattice("level8", "uint8", 0, 255),
}


def to_lattice(values: NDArray[Any], unit: str) -> tuple[NDArray[Any], int]:
    """Round to whole stored units (half to even), clip to the lattice, and count the voxels that clipping changed.

    values: any shape, real numbers in the unit `unit`.  Returns an array of the lattice's dtype and the count.
    Raises InputError `not-finite` for NaN or infinity.
    """
    lattice = LATTICES[unit]
    if values.dtype.kind == "f":
        if not np.isfinite(values).all():
            raise InputError("not-finite", "some values are NaN or infinite")
        values = np.rint(values)
    if values.size == 0:
        return values.astype(lattice.dtype), 0
    clipped = 0
    if values.min() < lattice.low or values.max() > lattice.high:
        clipped = int(np.count_nonzero((values < lattice.low) | (values > lattice.high)))
        values = np.clip(values, lattice.low, lattice.high)
    return values.astype(lattice.dtype), clipped
