"""CT in Hounsfield units, from one NIfTI file or the files of one DICOM series."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
from numpy.typing import NDArray

from . import nifti
from .errors import InputError
from .frames import Frame, frames_of, read_dataset
from .hounsfield import in_hu, says_hu
from .loaded import LoadedImage
from .pixels import PixelSource
from .resample import Grid, reoriented, resampling_facts, respaced, sampled
from .stack import stacked
from .units import to_lattice

NORMALISED = 1.0
"""An image whose values all lie within this of zero is not in HU: it was normalised."""

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
        stack = stacked(_headers(paths, allow_burned_in), even=True)
        native, source = Grid(stack.shape, stack.affine()), "dicom"
    _, stored, _ = _grids(native, spacing, orientation)
    return CTFacts(stored.shape, stored.spacing, "".join(nib.aff2axcodes(stored.affine)), source)


def count_slices(files: Files, *, spacing: Spacing | None = None, orientation: str | None = None, allow_burned_in: bool = False) -> int:
    """How many slices `read_ct_slice` can give: z of the volume, or the frames of a DICOM series as it stands.  Raises InputError."""
    if spacing is not None or orientation is not None:
        return inspect_ct(files, spacing=spacing, orientation=orientation, allow_burned_in=allow_burned_in).shape[2]
    paths = _paths(files)
    if _is_nifti(paths):
        return nifti.read_header(paths[0]).shape[2]
    return len(stacked(_headers(paths, allow_burned_in), even=False).frames)


def read_ct_volume(
    files: Files,
    *,
    spacing: Spacing | None = None,
    orientation: str | None = None,
    offset: int | None = None,
    allow_burned_in: bool = False,
) -> LoadedImage:
    """Read a volume as (1, x, y, z) int16 HU, axes "xyz", with its affine.

    files: one NIfTI file, or all files of one DICOM series in any order.  orientation: reorient exactly, "RAS" for instance.
    spacing: resample linearly to voxels of (x, y, z) mm, after reorienting; `facts["resampling"]` then holds what restore_grid needs.
    offset: HU to add to integers without a rescale of which none is below 0; without it they are refused as `not-hu`.
    Values are rounded to whole HU (half to even) and clipped to -1024 ... 3071; `facts["clipped_voxels"]` counts the clipped ones.
    Raises InputError.
    """
    values, native, stored, facts = _volume(_paths(files), spacing, orientation, offset, allow_burned_in)
    image, clipped = to_lattice(values, "hu")
    facts = {**facts, "clipped_voxels": clipped, "orientation": "".join(nib.aff2axcodes(stored.affine))}
    return LoadedImage(np.ascontiguousarray(image)[None], "hu", "xyz", stored.affine, None, None, facts, native)


def _volume(
    paths: Sequence[Path], spacing: Spacing | None, orientation: str | None, offset: int | None, allow_burned_in: bool
) -> tuple[NDArray[Any], Grid, Grid, dict[str, Any]]:
    """Values in HU on the stored grid, not rounded yet; the native grid, the stored one, and facts."""
    if _is_nifti(paths):
        header, values = nifti.read_voxels(paths[0])
        _check_hu(values)
        native, facts = Grid(header.shape, header.affine), _facts("nifti", [])
        unstated = header.unstated and bool(values.min() >= 0)
    else:
        values, native, facts, unstated = _read_dicom_volume(paths, allow_burned_in)
    values, said = in_hu(values, unstated, offset)
    oriented, stored, transform = _grids(native, spacing, orientation)
    if transform is not None:
        values = nib.orientations.apply_orientation(values, transform)
    if spacing is not None:
        values = sampled(values, oriented, stored, nearest=False)
    if transform is not None or spacing is not None:
        facts["resampling"] = resampling_facts(native, oriented, stored)
    return values, native, stored, {**facts, **said, "spacing_mm": list(stored.spacing)}


def read_ct_slice(
    files: Files,
    index: int,
    *,
    spacing: Spacing | None = None,
    orientation: str | None = None,
    offset: int | None = None,
    allow_burned_in: bool = False,
) -> LoadedImage:
    """Read one slice as (1, x, y) int16 HU, axes "xy"; the affine places it as a volume of one voxel in z.

    index: along z of the NIfTI volume, or of the DICOM slices sorted along their normal. The slices of a series need no even
    spacing here; all else is checked as for a volume. With spacing or orientation, index counts along z of the volume that read_ct_volume
    gives with them.  offset: as there; decided for the whole series.  Raises InputError, `bad-index` when there is no such slice.
    """
    paths = _paths(files)
    if spacing is not None or orientation is not None:
        return _stored_slice(paths, index, spacing, orientation, offset, allow_burned_in)
    native: Grid | None
    if _is_nifti(paths):
        header, volume = nifti.read_voxels(paths[0])
        if not 0 <= index < header.shape[2]:
            raise InputError("bad-index")
        values = volume[:, :, index]
        _check_hu(values)
        unstated = header.unstated and bool(volume.min() >= 0)
        native = Grid(header.shape, header.affine)
        affine = _slice_affine(native, index)
        facts = _facts("nifti", [])
    else:
        stack = stacked(_headers(paths, allow_burned_in), even=False)
        if not 0 <= index < len(stack.frames):
            raise InputError("bad-index")
        frame = stack.frames[index]
        source = PixelSource(read_dataset(frame.path, pixels=True), frame.path)
        stored = source.frame(frame.index)
        values, affine = _hu(stored, frame).T, stack.affine(index)
        unstated = bool(values.min() >= 0) and not says_hu(paths, allow_burned_in=allow_burned_in)
        native = None if stack.spacing_z is None else Grid(stack.shape, stack.affine())
        facts = _facts("dicom", frame.notes, source.syntax)
        facts["padding_voxels"] = _padding_voxels(stored, frame)
    values, said = in_hu(values, unstated, offset)
    image, facts["clipped_voxels"] = to_lattice(values, "hu")
    facts["spacing_mm"] = np.linalg.norm(affine[:3, :3], axis=0).tolist()
    return LoadedImage(np.ascontiguousarray(image)[None], "hu", "xy", affine, None, None, {**facts, **said}, native)


def _stored_slice(
    paths: Sequence[Path], index: int, spacing: Spacing | None, orientation: str | None, offset: int | None, allow_burned_in: bool
) -> LoadedImage:
    """A slice of the volume that is reoriented or resampled as a whole."""
    try:
        stamps = tuple((status.st_size, status.st_mtime_ns) for status in (path.stat() for path in paths))
    except OSError:
        raise InputError("not-found") from None
    values, native, stored, facts = _kept_volume(tuple(paths), stamps, spacing, orientation, offset, allow_burned_in)
    if not 0 <= index < stored.shape[2]:
        raise InputError("bad-index")
    image, clipped = to_lattice(values[:, :, index], "hu")
    # What counts voxels of the whole volume, or leads back to its grid, is no fact of a slice.
    own = {key: value for key, value in facts.items() if key not in ("resampling", "padding_voxels")}
    own |= {"clipped_voxels": clipped, "orientation": "".join(nib.aff2axcodes(stored.affine))}
    return LoadedImage(np.ascontiguousarray(image)[None], "hu", "xy", _slice_affine(stored, index), None, None, own, native)


@lru_cache(maxsize=1)
def _kept_volume(
    paths: tuple[Path, ...],
    _: tuple[tuple[int, int], ...],
    spacing: Spacing | None,
    orientation: str | None,
    offset: int | None,
    allow_burned_in: bool,
) -> tuple[NDArray[Any], Grid, Grid, dict[str, Any]]:
    """The slices of one volume are read one after another."""
    return _volume(paths, spacing, orientation, offset, allow_burned_in)


def _slice_affine(grid: Grid, index: int) -> NDArray[np.float64]:
    """The affine of one slice along z, as a volume of one voxel there."""
    affine = grid.affine.copy()
    affine[:3, 3] += grid.affine[:3, 2] * index
    return affine


def _read_dicom_volume(paths: Sequence[Path], allow_burned_in: bool) -> tuple[NDArray[Any], Grid, dict[str, Any], bool]:
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
        padding += _padding_voxels(stored, frame)
        values[z] = _hu(stored, frame)
    notes = sorted({note for frame in stack.frames for note in frame.notes})
    facts = _facts("dicom", notes, *sorted({source.syntax for source in sources.values()}))
    facts["padding_voxels"] = padding
    unscaled = all((frame.slope, frame.intercept) == (1, 0) for frame in stack.frames)
    unstated = unscaled and max(source.stored for source in sources.values()) > 8 and bool(values.min() >= 0)
    return values.transpose(2, 1, 0), Grid(stack.shape, stack.affine()), facts, unstated


def _hu(stored: NDArray[Any], frame: Frame) -> NDArray[Any]:
    """Rescale stored values, (rows, columns), to HU: exact integers where the rescale is whole."""
    if frame.slope == 1 and frame.intercept == int(frame.intercept) and abs(frame.intercept) < 1 << 24:
        wide: NDArray[Any] = stored.astype(np.int64 if stored.dtype.itemsize > 2 else np.int32)
        return np.asarray(wide + int(frame.intercept))
    return np.asarray(stored * np.float64(frame.slope) + frame.intercept)


def _padding_voxels(stored: NDArray[Any], frame: Frame) -> int:
    """Voxels that the header calls padding; their value is kept, and falls to the lattice's low end by clipping."""
    if frame.padding is None:
        return 0
    padding = frame.padding
    if stored.dtype.kind == "i" and padding >= 1 << (8 * stored.dtype.itemsize - 1):
        # Some scanners write the two's complement as an unsigned number.
        padding -= 1 << (8 * stored.dtype.itemsize)
    return int(np.count_nonzero(stored == padding))


def _check_hu(values: NDArray[Any]) -> None:
    if values.dtype.kind == "f" and not np.isfinite(values).all():
        raise InputError("not-finite")
    if values.min() >= -NORMALISED and values.max() <= NORMALISED:
        raise InputError("not-hu", "all values lie between -1 and 1")


def _grids(native: Grid, spacing: Spacing | None, orientation: str | None) -> tuple[Grid, Grid, NDArray[np.float64] | None]:
    oriented, transform = (native, None) if orientation is None else reoriented(native, orientation)
    return oriented, oriented if spacing is None else respaced(oriented, spacing), transform


def _headers(paths: Sequence[Path], allow_burned_in: bool) -> list[Frame]:
    return [
        frame for path in paths for frame in frames_of(read_dataset(path, pixels=False), path, allow_burned_in=allow_burned_in)
    ]


def _paths(files: Files) -> list[Path]:
    paths = [Path(file) for file in files]
    if not paths:
        raise InputError("empty-input")
    nifti.refuse_foreign(paths[0])
    if len(paths) > 1 and any(nifti.is_nifti(path) for path in paths):
        raise InputError("mixed-series", "a NIfTI image is one file")
    return paths


def _is_nifti(paths: Sequence[Path]) -> bool:
    return nifti.is_nifti(paths[0])


def _facts(source: str, notes: Sequence[str], *syntaxes: str) -> dict[str, Any]:
    facts: dict[str, Any] = {"modality": "ct", "source": source, "warnings": list(notes)}
    if syntaxes:
        facts["transfer_syntaxes"] = list(syntaxes)
    return facts
