"""Read NIfTI files: header checks first, then all voxels from one bounded decompression."""

import zlib
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
from numpy.typing import NDArray

from .errors import InputError
from .held import opened_part, opened_whole
from .limits import MAX_FILE_BYTES, SPACING_MM, check_file, check_voxels
from .quiet import quiet

AFFINE_TOLERANCE_MM = 0.01
"""How far sform and qform, or the affine and pixdim, may differ: header numbers are single precision."""

SHEAR_TOLERANCE = 1e-3
"""How far the axes of the grid may be from right angles (cosine)."""

HEADER_BYTES = 1 << 16
"""Enough of a file for either header and its usual extensions."""

MAX_EXTENSION_BYTES = 64 << 20
"""No header has longer extensions."""


FOREIGN_VOLUMES = (".mha", ".mhd", ".nrrd", ".nhdr", ".hdr", ".img", ".mgz", ".mgh", ".mnc")
"""Volumes of kinds that are not read: MetaImage, NRRD, Analyze and NIfTI pairs, MGH, MINC."""


@dataclass(frozen=True, eq=False)
class Nifti:
    """A checked header.  shape: (x, y, z).  affine: (4, 4) voxel to RAS+ mm.  slope, intercept: None for stored values as they are."""

    path: Path
    shape: tuple[int, int, int]
    affine: NDArray[np.float64]
    dtype: np.dtype[Any]
    offset: int
    slope: float | None
    intercept: float

    @property
    def voxels(self) -> int:
        """How many there are."""
        return self.shape[0] * self.shape[1] * self.shape[2]

    @property
    def unstated(self) -> bool:
        """Integers of more than 8 bits that no rescale turns into a unit."""
        return self.slope is None and self.dtype.kind in "iu" and self.dtype.itemsize > 1

    @property
    def spacing(self) -> tuple[float, float, float]:
        """Voxel size in mm along x, y, z of the grid."""
        x, y, z = np.linalg.norm(self.affine[:3, :3], axis=0)
        return float(x), float(y), float(z)

    def scaled(self, stored: NDArray[Any]) -> NDArray[Any]:
        """What stored values stand for: themselves, or float64 where the header scales them."""
        return stored if self.slope is None else stored * self.slope + self.intercept


def is_nifti(path: Path) -> bool:
    """By name, as everywhere in the field: .nii or .nii.gz."""
    return path.name.lower().endswith((".nii", ".nii.gz"))


def refuse_foreign(path: Path) -> None:
    """Raise InputError `unsupported-format` for a volume of a kind that is not read, by its name."""
    if path.name.lower().endswith(FOREIGN_VOLUMES):
        raise InputError("unsupported-format", "a MetaImage, NRRD, Analyze, MGH or MINC volume, or a NIfTI pair")


def read_header(path: Path) -> Nifti:
    """Parse and check the header of a single-file NIfTI-1 or NIfTI-2 image.  Raises InputError."""
    check_file(path)
    return _parse(path, _read_bytes(path, HEADER_BYTES))


def holds_negative(header: Nifti) -> bool:
    """Whether a stored value is below zero, looked for in the first of them before all are read.  Raises InputError."""
    if header.dtype.kind == "u":
        return False
    data = _read_bytes(header.path, HEADER_BYTES)[header.offset :]
    count = min(len(data) // header.dtype.itemsize, header.shape[0] * header.shape[1] * header.shape[2])
    if count > 0 and np.frombuffer(data, header.dtype, count).min() < 0:
        return True
    return bool(read_stored(header.path)[1].min() < 0)


def read_voxels(path: Path) -> tuple[Nifti, NDArray[Any]]:
    """Header and voxels, (x, y, z): integers as stored, or float64 where the header scales them.  Raises InputError."""
    header, stored = read_stored(path)
    return header, header.scaled(stored)


def read_stored(path: Path) -> tuple[Nifti, NDArray[Any]]:
    """Header and voxels, (x, y, z), in the type that the file has them in, before any scaling.  Raises InputError."""
    check_file(path)
    data = _read_bytes(path, None)
    header = _parse(path, data)
    count = header.voxels
    if len(data) - header.offset != count * header.dtype.itemsize:
        raise InputError("length-mismatch")
    return header, np.frombuffer(data, header.dtype, count, header.offset).reshape(header.shape, order="F")


def _read_bytes(path: Path, limit: int | None) -> bytes:
    """The file's bytes, inflated if it is gzip, up to `limit` of them; a checksum that fails is an error."""
    try:
        with opened_whole(path) if limit is None else opened_part(path) as file:
            raw = file.read() if limit is None else file.read(limit)
    except OSError:
        raise InputError("not-found") from None
    if raw[:2] != b"\x1f\x8b":
        return raw
    if limit is None:
        # No more is unpacked than the header promises, and one byte by which a longer stream is told.
        header = _parse(path, _inflate(raw, HEADER_BYTES, whole=False))
        promised = header.offset + header.voxels * header.dtype.itemsize
        if promised > MAX_FILE_BYTES or header.offset > MAX_EXTENSION_BYTES:
            raise InputError("too-large", "the header promises more than the limit for files")
        return _inflate(raw, promised + 1, whole=True)
    return _inflate(raw, limit, whole=False)


def _inflate(raw: bytes, room: int, *, whole: bool) -> bytes:
    """Up to `room` bytes of a gzip stream; of a whole one that is longer, InputError `length-mismatch`."""
    parts: list[bytes] = []
    while raw:
        inflate = zlib.decompressobj(16 + zlib.MAX_WBITS)
        try:
            part = inflate.decompress(raw, room)
        except zlib.error:
            raise InputError("decode-failed", "the gzip stream is damaged") from None
        parts.append(part)
        room -= len(part)
        if whole and room <= 0:
            raise InputError("length-mismatch")
        if not whole and (room <= 0 or not inflate.eof):
            break
        if not inflate.eof:
            raise InputError("decode-failed", "the gzip stream is truncated")
        raw = inflate.unused_data.lstrip(b"\0")
    return parts[0] if len(parts) == 1 else b"".join(parts)


def _parse(path: Path, data: bytes) -> Nifti:
    with quiet():
        try:
            kind = nib.Nifti2Header if data[:4] in (b"\x1c\x02\0\0", b"\0\0\x02\x1c") else nib.Nifti1Header
            size = 540 if kind is nib.Nifti2Header else 348
            header = kind(data[:size], check=False)
            magic = bytes(header["magic"])
            dims = [int(n) for n in header["dim"]]
            offset = int(header["vox_offset"])
            slope, intercept = float(header["scl_slope"]), float(header["scl_inter"])
            datatype = int(header["datatype"])
            units = int(header["xyzt_units"]) & 7
            dtype = header.get_data_dtype()
            bits = int(header["bitpix"])
        except Exception:
            raise InputError("decode-failed", "the NIfTI header does not parse") from None
        if magic[:3] not in (b"n+1", b"n+2"):
            raise InputError("unsupported-format", "the file is no single-file NIfTI image")
        if int(header["sizeof_hdr"]) != size or offset < size:
            raise InputError("decode-failed", "the NIfTI header contradicts itself")
        if datatype not in (2, 4, 8, 16, 64, 256, 512, 768, 1024, 1280) or bits != 8 * dtype.itemsize:
            raise InputError("unsupported-datatype")
        if units not in (0, 2):
            raise InputError("unsupported-units")
        shape = _shape(dims)
        check_voxels(*shape)
        affine = _affine(header)
    scaled = np.isfinite(slope) and slope != 0 and (slope, intercept) != (1.0, 0.0)
    if np.isinf(slope) or (scaled and not np.isfinite(intercept)):
        raise InputError("bad-rescale")
    return Nifti(path, shape, affine, dtype, offset, slope if scaled else None, intercept)


def _shape(dims: list[int]) -> tuple[int, int, int]:
    rank = dims[0]
    if not 2 <= rank <= 7:
        raise InputError("not-3d")
    sizes = dims[1 : 1 + rank]
    if min(sizes) < 1:
        raise InputError("bad-geometry", "an axis has no voxels")
    if any(size != 1 for size in sizes[3:]):
        raise InputError("not-3d")
    x, y, z = (*sizes, 1)[:3]
    return x, y, z


def _affine(header: Any) -> NDArray[np.float64]:
    """The one geometry that the header states; refused where it states none, or two."""
    sform, qform = int(header["sform_code"]), int(header["qform_code"])
    if sform <= 0 and qform <= 0:
        raise InputError("missing-position", "neither sform nor qform is set")
    try:
        affines = [np.asarray(header.get_sform(), np.float64)] if sform > 0 else []
        affines += [np.asarray(header.get_qform(), np.float64)] if qform > 0 else []
    except Exception:
        raise InputError("bad-geometry", "the quaternion is not valid") from None
    affine = affines[0]
    if not all(np.isfinite(each).all() for each in affines):
        raise InputError("bad-geometry", "the affine is not finite")
    extent = np.array([*header["dim"][1:4], 1.0], np.float64)
    if len(affines) == 2 and np.abs((affines[1] - affine) * extent).max() > max(AFFINE_TOLERANCE_MM, 1e-4 * float(extent.max())):
        raise InputError("ambiguous-geometry", "sform and qform differ")
    spacing = np.linalg.norm(affine[:3, :3], axis=0)
    if (spacing < SPACING_MM[0]).any() or (spacing > SPACING_MM[1]).any():
        raise InputError("bad-geometry", "a voxel size is outside the limits")
    axes = affine[:3, :3] / spacing
    if np.abs(axes.T @ axes - np.eye(3)).max() > SHEAR_TOLERANCE:
        raise InputError("gantry-tilt", "the axes of the grid are not at right angles")
    if not np.allclose(spacing, np.abs(header["pixdim"][1:4]), rtol=1e-3, atol=1e-3):
        raise InputError("ambiguous-geometry", "the voxel sizes of pixdim and of the affine differ")
    return affine
