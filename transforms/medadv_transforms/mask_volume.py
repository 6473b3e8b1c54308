"""A mask of a volume: decoded once, and laid onto one image after the other."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from . import nifti
from .errors import InputError
from .loaded import LoadedImage
from .mask_classes import BACKGROUND, LabelMap, classes_of, one_class, stacked_classes
from .mask_grids import image_grid, mask_grid, native_grid, onto
from .mask_pictures import IGNORE
from .resample import Grid
from .seg import is_segmentation, read_segmentation

BITS = 8
"""Classes of a DICOM segmentation that share one array, a bit each: they may overlap."""

WHOLE = 1e-3
"""How far a value may lie from a whole number and still be that number, as scaled headers leave it."""


@dataclass(frozen=True, eq=False)
class _Decoded:
    """One file.

    layers: its values, or bits of the classes of a segmentation, (x, y, z) each.  numbering: indices of those classes, None for values.
    assumed_mm: the slice distance that stood in where a segmentation tells none.
    """

    layers: list[NDArray[Any]]
    grid: Grid
    numbering: NDArray[np.int64] | None
    notes: list[str]
    assumed_mm: float | None = None

    def onto(self, like: LoadedImage, *, voxels: bool) -> tuple[list[NDArray[Any]], list[str]]:
        """The layers on an image's grid, and warnings.  Raises InputError."""
        own = mask_grid(self.grid, like, voxels=voxels)
        placed = [onto(layer, own, image_grid(like), native_grid(like)) for layer in self.layers]
        return [values for values, _ in placed], self.notes + placed[0][1]


class MaskVolume:
    """A NIfTI mask or DICOM SEG, or several of them, one a class; for a whole volume or for each of its slices.

    The files are read when it is made, and not looked at again.
    """

    def __init__(
        self,
        paths: Sequence[Path],
        like: LoadedImage,
        label_map: LabelMap | None = None,
        *,
        multilabel: bool = False,
        ignore: int | None = None,
        voxels: bool = False,
    ) -> None:
        """like: one of the images; its slice distance stands in where a segmentation tells none.  The rest is as for `read_mask`.

        Raises InputError.
        """
        self._label_map, self._multilabel, self._ignore, self._voxels = label_map, multilabel, ignore, voxels
        step = image_grid(like).spacing[2]
        self._files = [_decoded(path, step, label_map, whole=len(paths) > 1) for path in paths]

    @property
    def nbytes(self) -> int:
        """Bytes that it holds."""
        return sum(layer.nbytes for file in self._files for layer in file.layers)

    def fits(self, like: LoadedImage) -> bool:
        """Whether reading the files for this image would have given the same."""
        return all(file.assumed_mm in (None, image_grid(like).spacing[2]) for file in self._files)

    def onto(self, like: LoadedImage) -> tuple[NDArray[np.uint8], list[str]]:
        """The mask on an image's grid, and warnings, as `read_mask` gives them.  Raises InputError."""
        placed = [file.onto(like, voxels=self._voxels) for file in self._files]
        warnings = list(dict.fromkeys(warning for _, found in placed for warning in found))
        numbering = self._files[0].numbering
        if len(placed) > 1:
            planes = [one_class(layers[0], ignored=False) for layers, _ in placed]
            mask = stacked_classes(planes, [np.zeros_like(plane) for plane in planes], self._multilabel)
        elif numbering is None:
            mask = classes_of(placed[0][0][0], self._label_map, self._multilabel, self._ignore)
            if (mask == IGNORE).any():
                warnings.append(f"voxels of value {IGNORE} are ignored")
        else:
            mask = self._segments(placed[0][0], numbering)
        return (mask[..., 0] if like.spatial_axes == "xy" else mask), warnings

    def _segments(self, layers: Sequence[NDArray[Any]], numbering: NDArray[np.int64]) -> NDArray[np.uint8]:
        planes = np.stack([layers[number // BITS] >> number % BITS & 1 for number in range(len(numbering))])
        if self._multilabel:
            return planes
        if (planes.sum(0) > 1).any():
            raise InputError("label-overlap")
        if numbering.max() > 255:
            raise InputError("label-values")
        return np.asarray(np.tensordot(numbering, planes, 1), np.uint8)


def _decoded(path: Path, step: float, label_map: LabelMap | None, *, whole: bool) -> _Decoded:
    """whole: the file is the mask of one class, so that the segments of a segmentation are one."""
    if nifti.is_nifti(path):
        header, stored = nifti.read_voxels(path)
        values, notes = _whole_numbers(stored)
        return _Decoded([_small(values)], Grid(header.shape, header.affine), None, notes)
    if path.name.lower().endswith(nifti.FOREIGN_VOLUMES) or not is_segmentation(path):
        raise InputError("unsupported-format", "the mask is neither NIfTI nor a DICOM segmentation")
    found = read_segmentation(path, step)
    stated = sorted(set(found.numbers))
    groups: list[list[int]] = [[number] for number in stated]
    if whole:
        groups = [stated]
    elif label_map is not None:
        groups = [list(numbers) for name, numbers in label_map.items() if name != BACKGROUND]
    if not groups:
        raise InputError("label-map")
    numbering = np.array(stated) if label_map is None and not whole else np.arange(1, len(groups) + 1)
    layers = [found.bits(groups[first : first + BITS]) for first in range(0, len(groups), BITS)]
    return _Decoded(list(layers), found.grid, numbering, [], found.assumed_mm)


def _whole_numbers(values: NDArray[Any]) -> tuple[NDArray[Any], list[str]]:
    """Whole numbers, and a note where they were not quite.  Raises InputError `label-values`."""
    if values.dtype.kind != "f":
        return values, []
    if not np.isfinite(values).all() or np.abs(values).max(initial=0) > 2**31 - 1:
        raise InputError("label-values")
    rounded = np.rint(values)
    farthest = float(np.abs(values - rounded).max(initial=0))
    if farthest > WHOLE:
        raise InputError("label-values", "mask values lie between whole numbers")
    return rounded.astype(np.int32), ["mask values rounded to whole numbers"] if farthest > 0 else []


def _small(values: NDArray[Any]) -> NDArray[Any]:
    """The same whole numbers in a byte each, where they fit: masks come in types of up to eight."""
    if values.dtype.itemsize > 1 and values.min() >= 0 and values.max() <= 255:
        return values.astype(np.uint8)
    return values
