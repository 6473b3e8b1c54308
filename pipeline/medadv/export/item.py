"""One image on its way into a file."""

from dataclasses import dataclass
from typing import Any

from medadv.datasets.labels import Array, Label


@dataclass(frozen=True)
class Item:
    """A stored sample, clean or adversarial.

    image: (C, *spatial) in stored units.  attack: None for the clean image.  affine: (4, 4) voxel to RAS+ mm or None.
    """

    sample: str
    attack: str | None
    image: Array
    unit: str
    spatial_axes: str
    label: Label
    affine: Array | None
    facts: dict[str, Any]


@dataclass(frozen=True)
class Written:
    """An image that was written.  file: its name below the export's folder.  size: (width, height).  affine: as written, or None."""

    file: str
    sample: str
    attack: str | None
    label: Label
    size: tuple[int, int]
    affine: Array | None
