"""Sizes beyond which an input is refused before anything is decoded."""

from pathlib import Path

from .errors import InputError

MAX_FILE_BYTES = 4 << 30
"""No single file may be larger."""

MAX_PIXELS = 80_000_000
"""Pixels of one photograph; stays below the point where Pillow itself warns of a decompression bomb."""

MAX_VOXELS = 1 << 30
"""Voxels of one volume (2 GiB as int16): 512 x 512 x 4096."""

MAX_FRAMES = 20_000
"""Slices of one series."""

SPACING_MM = (0.01, 100.0)
"""Voxel sizes outside this range are header errors."""


def check_file(path: Path) -> int:
    """Return the file's size in bytes; raise InputError `not-found`, `decode-failed` (empty) or `too-large`."""
    try:
        is_file, size = path.is_file(), path.stat().st_size
    except (OSError, ValueError):
        raise InputError("not-found") from None
    if not is_file:
        raise InputError("not-found", "the path is not a regular file")
    if size == 0:
        raise InputError("decode-failed", "the file is empty")
    if size > MAX_FILE_BYTES:
        raise InputError("too-large", f"the file is larger than {MAX_FILE_BYTES >> 30} GiB")
    return size


def check_voxels(*shape: int) -> None:
    """Refuse shapes with an empty axis or more than MAX_VOXELS voxels."""
    count = 1
    for length in shape:
        if length < 1:
            raise InputError("bad-geometry", "an axis has no voxels")
        count *= length
    if count > MAX_VOXELS:
        raise InputError("too-large", "the volume has more voxels than the limit")
