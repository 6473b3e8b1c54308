"""What is one input, read? Image, label, geometry and facts, as they will be stored."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from medadv_transforms import (
    LoadedImage,
)


@dataclass(frozen=True, eq=False)
class Sample:
    """One input as it will be stored.

    image: (C, *spatial) uint8 or int16.  label: raw truth (int, list, mask or Boxes), None without.  region: (*spatial) bool, where
    perturbing is allowed, None for everywhere.  facts: JSON-able, allow-listed, published.
    """

    image: npt.NDArray[Any]
    unit: str
    spatial_axes: str
    label: Any
    affine: npt.NDArray[np.float64] | None
    spacing_mm: tuple[float, ...] | None
    region: npt.NDArray[np.bool_] | None
    facts: dict[str, Any]

    @property
    def x_first(self) -> bool:
        """Whether x comes before y."""
        return self.spatial_axes.startswith("x")


@dataclass(frozen=True)
class Shape:
    """What headers promise of a sample."""

    shape: tuple[int, ...]
    unit: str
    spatial_axes: str

    @property
    def x_first(self) -> bool:
        """Whether x comes before y."""
        return self.spatial_axes.startswith("x")


def spacing_of(image: LoadedImage) -> tuple[float, ...] | None:
    """Voxel spacing in mm along the stored axes, None for photographs."""
    if image.affine is None:
        return None
    lengths = np.linalg.norm(image.affine[:3, :3], axis=0)
    return tuple(float(v) for v in lengths[: image.image.ndim - 1])


def stacked_regions(samples: Sequence[Sample]) -> npt.NDArray[np.bool_] | None:
    """(n, 1, *spatial) bool, where each sample may be perturbed; None where all may be everywhere."""
    if all(s.region is None for s in samples):
        return None
    return np.stack([np.ones(s.image.shape[1:], bool) if s.region is None else s.region for s in samples])[:, None]
