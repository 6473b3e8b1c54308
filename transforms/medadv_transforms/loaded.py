"""What every reader returns."""

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .placement import Placement
from .resample import Grid


@dataclass(frozen=True, eq=False)
class LoadedImage:
    """One image in stored units, with its geometry.

    image: (C, *spatial), the dtype of the unit's lattice.  unit: "hu" or "level8".
    spatial_axes: the order of the spatial axes, "yx" (photographs), "xy" (CT slice) or "xyz" (CT volume).
    affine: (4, 4) voxel to RAS+ millimetres, None for photographs (a slice counts as a volume of one voxel in z).
    placement: how a photograph was cropped, scaled and padded; None for CT.
    region: (*spatial) bool, where a perturbation is allowed; None means everywhere.
    facts: JSON values from an allow-list of geometry and modality facts; fit to publish.
    native: the grid of the CT volume that it was read from, a slice's whole series where it is evenly spaced; None where there is none.
    """

    image: NDArray[Any]
    unit: str
    spatial_axes: str
    affine: NDArray[np.float64] | None
    placement: Placement | None
    region: NDArray[np.bool_] | None
    facts: dict[str, Any]
    native: Grid | None = None
