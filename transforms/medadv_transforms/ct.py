"""CT in Hounsfield units, from one NIfTI file or the files of one DICOM series."""

from dataclasses import dataclass

import numpy as np

from .loaded import LoadedImage
from .resample import Spacing
from .slices import open_slices
from .units import to_lattice
from .volume import Files, axis_codes, paths_of, read_volume, stored_grid


@dataclass(frozen=True)
class CTFacts:
    """What the headers promise.  shape: (x, y, z) after reorientation and resampling.  spacing: mm.  orientation: such as "LPS"."""

    shape: tuple[int, int, int]
    spacing: tuple[float, float, float]
    orientation: str
    source: str


def inspect_ct(files: Files, *, spacing: Spacing | None = None, orientation: str | None = None, allow_burned_in: bool = False) -> CTFacts:
    """Shape and spacing of the volume that `read_ct_volume` would give, from headers only.  Raises InputError."""
    stored, source = stored_grid(paths_of(files), spacing, orientation, allow_burned_in)
    return CTFacts(stored.shape, stored.spacing, axis_codes(stored), source)


def count_slices(files: Files, *, spacing: Spacing | None = None, orientation: str | None = None, allow_burned_in: bool = False) -> int:
    """How many slices `read_ct_slice` can give: z of the volume, or the frames of a DICOM series as it stands.  Raises InputError."""
    return len(open_slices(files, spacing=spacing, orientation=orientation, allow_burned_in=allow_burned_in))


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
    values, native, stored, facts = read_volume(paths_of(files), spacing, orientation, offset, allow_burned_in)
    image, facts["clipped_voxels"] = to_lattice(values, "hu")
    return LoadedImage(np.ascontiguousarray(image)[None], "hu", "xyz", stored.affine, None, None, facts, native)


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
    return open_slices(files, spacing=spacing, orientation=orientation, offset=offset, allow_burned_in=allow_burned_in).read(index)
