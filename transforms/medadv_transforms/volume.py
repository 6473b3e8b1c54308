"""A CT volume in Hounsfield units on the grid that it is stored on, and what headers alone say of that grid."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
from numpy.typing import NDArray

from . import nifti
from .errors import InputError
from .frames import Frame, frames_of, read_dataset, read_frames
from .hounsfield import check_hu, ct_facts, header_facts, in_hu, padding_voxels, rescaled, unscaled
from .pixels import PixelSource
from .resample import Grid, Spacing, reoriented, resampling_facts, respaced, sampled
from .stack import stacked

Files = Sequence[str | Path]


def paths_of(files: Files) -> list[Path]:
    """The files of one CT.  Raises InputError where they cannot be one: none, several with a NIfTI file, a kind that is not read."""
    paths = [Path(file) for file in files]
    if not paths:
        raise InputError("empty-input")
    nifti.refuse_foreign(paths[0])
    if len(paths) > 1 and any(nifti.is_nifti(path) for path in paths):
        raise InputError("mixed-series", "a NIfTI image is one file")
    return paths


def axis_codes(grid: Grid) -> str:
    """Where the axes of a grid lead, such as "LPS"."""
    return "".join(nib.aff2axcodes(grid.affine))


def slice_affine(grid: Grid, index: int) -> NDArray[np.float64]:
    """The affine of one slice along z, as a volume of one voxel there."""
    affine = grid.affine.copy()
    affine[:3, 3] += grid.affine[:3, 2] * index
    return affine


def stored_grid(paths: Sequence[Path], spacing: Spacing | None, orientation: str | None, allow_burned_in: bool) -> tuple[Grid, str]:
    """The grid that `read_volume` would store on, from headers only, and the kind of source.  Raises InputError."""
    if nifti.is_nifti(paths[0]):
        header = nifti.read_header(paths[0])
        native, source = Grid(header.shape, header.affine), "nifti"
    else:
        stack = stacked(read_frames(paths, allow_burned_in=allow_burned_in), even=True)
        native, source = Grid(stack.shape, stack.affine()), "dicom"
    return _grids(native, spacing, orientation)[1], source


def read_volume(
    paths: Sequence[Path], spacing: Spacing | None, orientation: str | None, offset: int | None, allow_burned_in: bool
) -> tuple[NDArray[Any], Grid, Grid, dict[str, Any]]:
    """Values (x, y, z) in HU on the stored grid, not rounded yet; the native grid, the stored one, and facts.  Raises InputError."""
    if nifti.is_nifti(paths[0]):
        header, values = nifti.read_voxels(paths[0])
        check_hu(values)
        native, facts = Grid(header.shape, header.affine), ct_facts("nifti", [])
        unstated = header.unstated and bool(values.min() >= 0)
    else:
        values, native, facts, unstated = _read_dicom(paths, allow_burned_in)
    values, said = in_hu(values, unstated, offset)
    oriented, stored, transform = _grids(native, spacing, orientation)
    if transform is not None:
        values = nib.orientations.apply_orientation(values, transform)
    if spacing is not None:
        values = sampled(values, oriented, stored, nearest=False)
    if transform is not None or spacing is not None:
        facts["resampling"] = resampling_facts(native, oriented, stored)
    return values, native, stored, {**facts, **said, "spacing_mm": list(stored.spacing), "orientation": axis_codes(stored)}


def _read_dicom(paths: Sequence[Path], allow_burned_in: bool) -> tuple[NDArray[Any], Grid, dict[str, Any], bool]:
    """Values in HU as far as the headers say so, (x, y, z); their grid; facts; whether nothing says that they are HU."""
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
    unstated = unscaled(stack.frames) and bool(values.min() >= 0)
    return values.transpose(2, 1, 0), Grid(stack.shape, stack.affine()), facts, unstated


def _grids(native: Grid, spacing: Spacing | None, orientation: str | None) -> tuple[Grid, Grid, NDArray[np.float64] | None]:
    oriented, transform = (native, None) if orientation is None else reoriented(native, orientation)
    return oriented, oriented if spacing is None else respaced(oriented, spacing), transform
