"""Read binary DICOM segmentations, on the grid that the object itself describes."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from pydicom.dataset import Dataset

from .errors import InputError
from .frames import read_dataset
from .limits import MAX_FRAMES, SPACING_MM, check_voxels
from .quiet import quiet
from .resample import Grid
from .stack import LPS_TO_RAS

SEGMENTATION = "1.2.840.10008.5.1.4.1.1.66.4"
UNCOMPRESSED = ("1.2.840.10008.1.2", "1.2.840.10008.1.2.1", "1.2.840.10008.1.2.1.99")


@dataclass(frozen=True, eq=False)
class Segmentation:
    """The frames of a SEG object, as stored: bits, packed.

    numbers: segment number of each frame.  planes: z of each frame on `grid`.  assumed_mm: the distance of planes that was handed in,
    None where the object states its own.
    """

    packed: bytes
    numbers: list[int]
    planes: NDArray[np.int64]
    grid: Grid
    assumed_mm: float | None

    def bits(self, groups: Sequence[Sequence[int]]) -> NDArray[np.uint8]:
        """(x, y, z) uint8: bit k is set where a segment of the k-th group lies; eight groups at most."""
        columns, rows, depth = self.grid.shape
        stored = np.frombuffer(self.packed, np.uint8)
        size = rows * columns
        found = np.zeros((depth, rows, columns), np.uint8)
        for index, number in enumerate(self.numbers):
            value = sum(1 << place for place, group in enumerate(groups) if number in group)
            if value:
                start = index * size
                frame = np.unpackbits(stored[start // 8 : -(-(start + size) // 8)], bitorder="little")[start % 8 : start % 8 + size]
                found[self.planes[index]] |= frame.reshape(rows, columns) * np.uint8(value)
        return found.T


def is_segmentation(path: Path) -> bool:
    """Whether a file is a DICOM segmentation object."""
    try:
        dataset = read_dataset(path, pixels=False)
    except InputError:
        return False
    with quiet():
        return str(dataset.get("SOPClassUID") or "") == SEGMENTATION


def read_segmentation(path: Path, step_hint_mm: float) -> Segmentation:
    """Read a SEG object; planes that it leaves out are empty.

    step_hint_mm: distance of planes to assume where a single plane tells none.  Raises InputError.
    """
    dataset = read_dataset(path, pixels=True)
    with quiet():
        try:
            return _segmentation(dataset, step_hint_mm)
        except InputError:
            raise
        except Exception:
            raise InputError("decode-failed", "the segmentation object does not parse") from None


def _segmentation(dataset: Dataset, step_hint_mm: float) -> Segmentation:
    if str(dataset.get("SegmentationType") or "") != "BINARY" or int(dataset.BitsAllocated) != 1:
        raise InputError("unsupported-segmentation")
    if str(dataset.file_meta.TransferSyntaxUID) not in UNCOMPRESSED:
        raise InputError("unsupported-transfer-syntax")
    rows, columns, count = int(dataset.Rows), int(dataset.Columns), int(dataset.get("NumberOfFrames") or 1)
    if not 1 <= count <= MAX_FRAMES:
        raise InputError("too-large", "the number of frames is outside the limits")
    check_voxels(columns, rows, count)
    groups = dataset.PerFrameFunctionalGroupsSequence
    expected = -(-rows * columns * count // 8)
    if len(groups) != count or not expected <= len(dataset.PixelData) <= expected + 1:
        raise InputError("length-mismatch")
    shared = dataset.SharedFunctionalGroupsSequence[0]
    orientations = [_numbers(group, shared, "PlaneOrientationSequence", "ImageOrientationPatient", 6) for group in groups]
    spacings = [_numbers(group, shared, "PixelMeasuresSequence", "PixelSpacing", 2) for group in groups]
    if max(np.ptp(np.array(orientations), axis=0).max(), np.ptp(np.array(spacings), axis=0).max()) > 1e-4:
        raise InputError("orientation-differs", "the planes of the segmentation differ in orientation or spacing")
    positions = np.array([_numbers(group, shared, "PlanePositionSequence", "ImagePositionPatient", 3) for group in groups])
    directions = np.array(orientations[0]).reshape(2, 3)
    if np.abs(directions @ directions.T - np.eye(2)).max() > 1e-3 or not all(SPACING_MM[0] <= s <= SPACING_MM[1] for s in spacings[0]):
        raise InputError("bad-geometry")
    normal = np.cross(directions[0], directions[1])
    heights = positions @ normal
    sideways = positions - positions[0] - np.outer(heights - heights[0], normal)
    if np.abs(sideways).max() > 0.1:
        raise InputError("gantry-tilt")
    measures = shared.get("PixelMeasuresSequence")
    stated = measures[0].get("SpacingBetweenSlices") if measures else None
    planes, step = _planes(heights, float(stated) if stated else step_hint_mm)
    depth = int(planes.max()) + 1
    check_voxels(columns, rows, depth)
    numbers = []
    for group in groups:
        items = group.get("SegmentIdentificationSequence") or shared.get("SegmentIdentificationSequence")
        numbers.append(int(items[0].ReferencedSegmentNumber))
    affine = np.eye(4)
    affine[:3, 0] = directions[0] * spacings[0][1]
    affine[:3, 1] = directions[1] * spacings[0][0]
    affine[:3, 2] = normal * step
    affine[:3, 3] = positions[int(np.argmin(heights))]
    grid = Grid((columns, rows, depth), LPS_TO_RAS @ affine)
    return Segmentation(dataset.PixelData, numbers, planes, grid, None if stated else step_hint_mm)


def _planes(heights: NDArray[np.float64], step: float) -> tuple[NDArray[np.int64], float]:
    """Which plane of a regular stack each frame lies on, and the distance of the planes."""
    distinct = np.unique(np.round(heights, 3))
    if len(distinct) > 1:
        step = min(step, float(np.diff(distinct).min())) if step > 0 else float(np.diff(distinct).min())
    if not SPACING_MM[0] <= step <= SPACING_MM[1]:
        raise InputError("bad-geometry")
    places = (heights - heights.min()) / step
    planes = np.rint(places)
    if np.abs(places - planes).max() > 0.1:
        raise InputError("uneven-spacing", "the planes of the segmentation are not evenly spaced")
    return planes.astype(np.int64), step


def _numbers(own: Dataset, shared: Dataset, group: str, keyword: str, count: int) -> list[float]:
    items: Any = own.get(group) or shared.get(group)
    if not items or keyword not in items[0]:
        raise InputError("missing-position")
    values = [float(value) for value in items[0].get(keyword)]
    if len(values) != count or not np.isfinite(values).all():
        raise InputError("bad-geometry")
    return values
