"""What a DICOM CT file says of each of its frames, from the header alone; refused where it says too little."""

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pydicom
from numpy.typing import NDArray
from pydicom.dataset import Dataset

from .errors import InputError
from .held import opened_part, opened_whole
from .limits import MAX_FRAMES, SPACING_MM, check_file, check_voxels
from .quiet import quiet
from .structure import check_start

CT_CLASSES = {
    "1.2.840.10008.5.1.4.1.1.2": "CT Image Storage",
    "1.2.840.10008.5.1.4.1.1.2.1": "Enhanced CT Image Storage",
    "1.2.840.10008.5.1.4.1.1.2.2": "Legacy Converted Enhanced CT Image Storage",
}

ORTHOGONAL = 1e-3
"""How far direction cosines may be from unit length and from right angles: headers round them to a few digits."""

SLOPES = (1e-6, 1e6)
"""Rescale slopes outside this range are header errors."""

MAX_INTERCEPT = 1e6
"""So are intercepts beyond this."""


@dataclass(frozen=True, eq=False)
class Frame:
    """One slice, as its header describes it.

    position: (3,) LPS+ mm, centre of the first pixel.  rows_columns: (h, w).  directions: (2, 3) LPS+ unit vectors along increasing
    column index and along increasing row index.  spacing: (between columns, between rows) mm.  thickness: mm or None.
    bits, signed: of the stored values.
    burned_in: "YES" or "NO", whether text is burnt into the pixels, lossy: "01" or "00", whether they were ever compressed with loss; None
    where the header does not say.
    """

    path: Path
    index: int
    size: tuple[int, int]
    position: NDArray[np.float64]
    directions: NDArray[np.float64]
    spacing: tuple[float, float]
    thickness: float | None
    step: float | None
    tilt: float
    slope: float
    intercept: float
    bits: int
    signed: bool
    padding: int | None
    burned_in: str | None
    lossy: str | None
    series: str = field(repr=False)
    frame_of_reference: str = field(repr=False)
    notes: tuple[str, ...]

    @property
    def normal(self) -> NDArray[np.float64]:
        """Unit vector along which slices are ordered: column direction x row direction."""
        cross: NDArray[np.float64] = np.cross(self.directions[0], self.directions[1])
        return cross


def read_dataset(path: Path, *, pixels: bool) -> Dataset:
    """Parse a DICOM file.  Raises InputError `not-found`, `not-dicom`, `too-large` or `decode-failed`."""
    check_file(path)
    with opened_whole(path) if pixels else opened_part(path) as file, quiet():
        # Only what begins as an element does is read without the mark of the format.
        force = {"force": True} if check_start(path) else {}
        try:
            dataset = pydicom.dcmread(file, stop_before_pixels=not pixels, **force)
        except pydicom.errors.InvalidDicomError:
            raise InputError("not-dicom") from None
        except Exception:
            raise InputError("decode-failed", "the DICOM file does not parse") from None
    return dataset


def frames_of(dataset: Dataset, path: Path, *, allow_burned_in: bool = False) -> list[Frame]:
    """Every frame of a CT object with its geometry and rescale; raises InputError when it is no CT or says too little."""
    with quiet():
        try:
            return _frames(dataset, path, allow_burned_in)
        except InputError:
            raise
        except Exception:
            raise InputError("decode-failed", "the DICOM header holds values of the wrong kind") from None


def read_frames(paths: Sequence[Path], *, allow_burned_in: bool = False) -> list[Frame]:
    """Every frame of the files of a series, in their order, each file parsed once and without its pixels.  Raises InputError."""
    return [frame for path in paths for frame in frames_of(read_dataset(path, pixels=False), path, allow_burned_in=allow_burned_in)]


def _frames(dataset: Dataset, path: Path, allow_burned_in: bool) -> list[Frame]:
    notes = _check_kind(dataset, allow_burned_in)
    rows, columns, count = int(dataset.get("Rows") or 0), int(dataset.get("Columns") or 0), int(dataset.get("NumberOfFrames") or 1)
    if count < 1 or count > MAX_FRAMES:
        raise InputError("too-large", "the number of frames is outside the limits")
    check_voxels(columns, rows, count)
    shared, per_frame = _functional_groups(dataset, count)
    series = str(dataset.get("SeriesInstanceUID") or "")
    reference = str(dataset.get("FrameOfReferenceUID") or "")
    padding = dataset.get("PixelPaddingValue")
    burned_in, lossy = _said(dataset, "BurnedInAnnotation", ("YES", "NO")), _said(dataset, "LossyImageCompression", ("00", "01"))
    frames = []
    for index in range(count):
        find = _Lookup(dataset, shared, per_frame[index] if per_frame else None)
        position = find.numbers("PlanePositionSequence", "ImagePositionPatient", 3)
        orientation = find.numbers("PlaneOrientationSequence", "ImageOrientationPatient", 6)
        spacing = find.numbers("PixelMeasuresSequence", "PixelSpacing", 2)
        slope, intercept = _rescale(find)
        frames.append(
            Frame(
                path=path,
                index=index,
                size=(rows, columns),
                position=np.array(position),
                directions=_directions(orientation),
                spacing=(_length(spacing[1]), _length(spacing[0])),
                thickness=_optional_length(find.value("PixelMeasuresSequence", "SliceThickness")),
                step=_optional_length(find.value("PixelMeasuresSequence", "SpacingBetweenSlices")),
                tilt=_tilt(find.value("CTAcquisitionDetailsSequence", "GantryDetectorTilt")),
                slope=slope,
                intercept=intercept,
                bits=int(dataset.get("BitsStored") or 0),
                signed=int(dataset.get("PixelRepresentation") or 0) == 1,
                padding=None if padding is None else int(padding),
                burned_in=burned_in,
                lossy=lossy,
                series=series,
                frame_of_reference=reference,
                notes=tuple(notes),
            )
        )
    return frames


def _check_kind(dataset: Dataset, allow_burned_in: bool) -> list[str]:
    """Refuse what is no CT image in HU; return notes for the record."""
    notes = []
    if "Rows" not in dataset or "Columns" not in dataset:
        raise InputError("not-an-image")
    modality = str(dataset.get("Modality") or "").strip().upper()
    sop_class = str(dataset.get("SOPClassUID") or getattr(dataset, "file_meta", {}).get("MediaStorageSOPClassUID") or "")
    if (modality and modality != "CT") or (sop_class and sop_class not in CT_CLASSES) or not (modality or sop_class):
        raise InputError("not-ct")
    if not modality:
        notes.append("modality missing, CT by SOP class")
    if str(dataset.get("BurnedInAnnotation") or "").strip().upper() == "YES" and not allow_burned_in:
        raise InputError("burned-in-annotation")
    image_type = dataset.get("ImageType") or []
    if "LOCALIZER" in [str(value).strip().upper() for value in ([image_type] if isinstance(image_type, str) else image_type)]:
        raise InputError("localizer")
    if int(dataset.get("SamplesPerPixel", 1)) != 1 or str(dataset.get("PhotometricInterpretation") or "") != "MONOCHROME2":
        raise InputError("unsupported-photometric")
    return notes


def _said(dataset: Dataset, keyword: str, values: tuple[str, str]) -> str | None:
    """What the header says, where it is one of the two words that the standard knows: anything else could be free text."""
    word = str(dataset.get(keyword) or "").strip().upper()
    return word if word in values else None


def _functional_groups(dataset: Dataset, count: int) -> tuple[Dataset | None, Sequence[Dataset] | None]:
    """The shared and per-frame functional groups of an Enhanced object; None for both in a classic one."""
    per_frame = dataset.get("PerFrameFunctionalGroupsSequence")
    if not per_frame:
        if count > 1:
            raise InputError("missing-position", "a multi-frame object has no functional groups to place its frames")
        return None, None
    if len(per_frame) != count:
        raise InputError("length-mismatch", "the number of frames and of functional groups differ")
    shared = dataset.get("SharedFunctionalGroupsSequence")
    return (shared[0] if shared else None), list(per_frame)


@dataclass(frozen=True)
class _Lookup:
    """Find an attribute in the frame's group, the shared group, or (classic objects) at the top level."""

    dataset: Dataset
    shared: Dataset | None
    own: Dataset | None

    def value(self, group: str, keyword: str) -> Any:
        if self.own is None:
            return self.dataset.get(keyword)
        for groups in (self.own, self.shared):
            items = groups.get(group) if groups is not None else None
            if items and keyword in items[0]:
                return items[0].get(keyword)
        return None

    def numbers(self, group: str, keyword: str, count: int) -> list[float]:
        values = self.value(group, keyword)
        if values is None or isinstance(values, str) or not isinstance(values, Sequence) or len(values) != count:
            raise InputError("missing-position")
        numbers = [float(value) for value in values]
        if not all(math.isfinite(number) for number in numbers):
            raise InputError("bad-geometry", "a position, direction or spacing is no finite number")
        return numbers


def _rescale(find: _Lookup) -> tuple[float, float]:
    if find.own is None and "ModalityLUTSequence" in find.dataset:
        raise InputError("bad-rescale", "the rescale is a table")
    group = "PixelValueTransformationSequence"
    slope, intercept = find.value(group, "RescaleSlope"), find.value(group, "RescaleIntercept")
    if slope is None or intercept is None or slope == "" or intercept == "":
        raise InputError("missing-rescale")
    kind = str(find.value(group, "RescaleType") or "HU").strip().upper()
    if kind != "HU":
        raise InputError("not-hu", "the header says that the rescaled values are not HU")
    slope, intercept = float(slope), float(intercept)
    if not (SLOPES[0] <= slope <= SLOPES[1] and abs(intercept) <= MAX_INTERCEPT):
        raise InputError("bad-rescale")
    return slope, intercept


def _directions(orientation: list[float]) -> NDArray[np.float64]:
    directions = np.array(orientation).reshape(2, 3)
    gram = directions @ directions.T
    if np.abs(gram - np.eye(2)).max() > ORTHOGONAL:
        raise InputError("bad-geometry", "the direction cosines are not orthonormal")
    return directions


def _length(value: float) -> float:
    if not SPACING_MM[0] <= value <= SPACING_MM[1]:
        raise InputError("bad-geometry", "a pixel spacing is outside the limits")
    return value


def _optional_length(value: Any) -> float | None:
    if value is None or value == "":
        return None
    length = abs(float(value))
    return length if SPACING_MM[0] <= length <= SPACING_MM[1] else None


def _tilt(value: Any) -> float:
    tilt = 0.0 if value is None or value == "" else float(value)
    return tilt if math.isfinite(tilt) else 0.0
