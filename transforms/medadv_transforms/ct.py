"""CT in Hounsfield units, from one NIfTI file or the files of one DICOM series."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
from numpy.typing import NDArray

from . import nifti
from .errors import InputError
from .frames import Frame, frames_of, read_dataset, read_frames
from .hounsfield import check_hu, ct_facts, header_facts, padding_voxels, rescaled
from .loaded import LoadedImage
from .pixels import PixelSource
from .resample import Grid, reoriented, resampling_facts, respaced, sampled
from .slices import open_slices
from .stack import stacked
from .units import to_lattice

Files = Sequence[str | Path]
Spacing = tuple[float, float, float]


@dataclass(frozen=True)
class CTFacts:
    """What the headers promise.  shape: (x, y, z) after reorientation and resampling.  spacing: mm.  orientation: such as "LPS"."""

    shape: tuple[int, int, int]
    spacing: Spacing
    orientation: str
    source: str


def inspect_ct(files: Files, *, spacing: Spacing | None = None, orientation: str | None = None, allow_burned_in: bool = False) -> CTFacts:
    """Shape and spacing of the volume that `read_ct_volume` would give, from headers only.  Raises InputError."""
    paths = _paths(files)
    if _is_nifti(paths):
        header = nifti.read_header(paths[0])
        native, source = Grid(header.shape, header.affine), "nifti"
    else:
        stack = stacked(read_frames(paths, allow_burned_in=allow_burned_in), even=True)
        native, source = Grid(stack.shape, stack.affine()), "dicom"
    _, stored, _ = _grids(native, spacing, orientation)
    return CTFacts(stored.shape, stored.spacing, "".join(nib.aff2axcodes(stored.affine)), source)


def count_slices(files: Files, *, allow_burned_in: bool = False) -> int:
    """How many slices `read_ct_slice` can give: z of a NIfTI volume, or the frames of a DICOM series.  Raises InputError."""
    return len(open_slices(files, allow_burned_in=allow_burned_in))


def read_ct_volume(
    files: Files, *, spacing: Spacing | None = None, orientation: str | None = None, allow_burned_in: bool = False
) -> LoadedImage:
    """Read a volume as (1, x, y, z) int16 HU, axes "xyz", with its affine.

    files: one NIfTI file, or all files of one DICOM series in any order.  orientation: reorient exactly, "RAS" for instance.
    spacing: resample linearly to voxels of (x, y, z) mm, after reorienting; `facts["resampling"]` then holds what restore_grid needs.
    Values are rounded to whole HU (half to even) and clipped to -1024 ... 3071; `facts["clipped_voxels"]` counts the clipped ones.
    Raises InputError.
    """
    paths = _paths(files)
    if _is_nifti(paths):
        header, values = nifti.read_voxels(paths[0])
        check_hu(values)
        native, facts = Grid(header.shape, header.affine), ct_facts("nifti", [])
    else:
        values, native, facts = _read_dicom_volume(paths, allow_burned_in)
    oriented, stored, transform = _grids(native, spacing, orientation)
    if transform is not None:
        values = nib.orientations.apply_orientation(values, transform)
    if spacing is not None:
        values = sampled(values, oriented, stored, nearest=False)
    if transform is not None or spacing is not None:
        facts["resampling"] = resampling_facts(native, oriented, stored)
    image, facts["clipped_voxels"] = to_lattice(values, "hu")
    facts["spacing_mm"] = list(stored.spacing)
    facts["orientation"] = "".join(nib.aff2axcodes(stored.affine))
    return LoadedImage(np.ascontiguousarray(image)[None], "hu", "xyz", stored.affine, None, None, facts)


def read_ct_slice(files: Files, index: int, *, allow_burned_in: bool = False) -> LoadedImage:
    """Read one slice as (1, x, y) int16 HU, axes "xy"; the affine places it as a volume of one voxel in z.

    index: along z of the NIfTI volume, or of the DICOM slices sorted along their normal. The slices of a series need no even
    spacing here; all else is checked as for a volume.  Raises InputError, `bad-index` when there is no such slice.
    """
    return open_slices(files, allow_burned_in=allow_burned_in).read(index)


def _read_dicom_volume(paths: Sequence[Path], allow_burned_in: bool) -> tuple[NDArray[Any], Grid, dict[str, Any]]:
    sources: dict[Path, PixelSource] = {}
    frames: list[Frame] = []
    for path in paths:
        dataset = read_dataset(path, pixels=True)
        frames += frames_of(dataset, path, allow_burned_in=allow_burned_in)
        sources[path] = PixelSource(dataset, path)
    stack = stacked(frames, even=True)
    whole = all(frame.slope == 1 and frame.intercept == int(frame.intercept) for frame in stack.frames)
    values: NDArray[Any] = np.empty(stack.shape[::-1], np.int32 if whole else np.float64)
    padding = 0
    for z, frame in enumerate(stack.frames):
        stored = sources[frame.path].frame(frame.index)
        padding += padding_voxels(stored, frame)
        values[z] = rescaled(stored, frame)
    notes = sorted({note for frame in stack.frames for note in frame.notes})
    facts = ct_facts("dicom", notes, *sorted({source.syntax for source in sources.values()})) | header_facts(stack.frames)
    facts["padding_voxels"] = padding
    return values.transpose(2, 1, 0), Grid(stack.shape, stack.affine()), facts


def _grids(native: Grid, spacing: Spacing | None, orientation: str | None) -> tuple[Grid, Grid, NDArray[np.float64] | None]:
    oriented, transform = (native, None) if orientation is None else reoriented(native, orientation)
    return oriented, oriented if spacing is None else respaced(oriented, spacing), transform


def _paths(files: Files) -> list[Path]:
    paths = [Path(file) for file in files]
    if not paths:
        raise InputError("empty-input")
    if len(paths) > 1 and any(nifti.is_nifti(path) for path in paths):
        raise InputError("mixed-series", "a NIfTI image is one file")
    return paths


def _is_nifti(paths: Sequence[Path]) -> bool:
    return nifti.is_nifti(paths[0])
