"""A CT that is read slice by slice: what its slices share is read once, and kept with the object."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from . import nifti
from .errors import InputError
from .frames import Frame, read_dataset, read_frames
from .hounsfield import check_hu, ct_facts, padding_voxels, rescaled
from .loaded import LoadedImage
from .nifti import Nifti
from .pixels import PixelSource
from .stack import Stack, stacked
from .units import to_lattice


class CTSlices:
    """The slices of one CT, each (1, x, y) int16 HU as `read_ct_slice` gives it; `len()` says how many there are.

    Headers are read when it is made. The voxels of a NIfTI file and the data of a multi-frame object, which all slices share, are read
    for the first slice and kept; a DICOM slice that is a file by itself is read when it is asked for. The files are not looked at
    again: whoever keeps the object sees to it that they stay what they were.
    """

    def __init__(self, files: Sequence[Path], *, allow_burned_in: bool = False) -> None:
        """files: one NIfTI file, or all files of one DICOM series in any order.  Raises InputError."""
        self.volume: Nifti | None = None
        self.stack: Stack | None = None
        self._stored: NDArray[Any] | None = None
        self._shared: tuple[Path, PixelSource] | None = None
        if nifti.is_nifti(files[0]):
            self.volume = nifti.read_header(files[0])
        else:
            frames = read_frames(files, allow_burned_in=allow_burned_in)
            self.stack = stacked(frames, even=False)
            # Frames of one object lie in one file; a file a slice is the rule.
            self._several = len({frame.path for frame in frames}) < len(frames)

    def __len__(self) -> int:
        return self.volume.shape[2] if self.volume is not None else len(self._frames)

    @property
    def nbytes(self) -> int:
        """Bytes that it holds as soon as a slice was read, headers aside."""
        if self.volume is not None:
            x, y, z = self.volume.shape
            return x * y * z * self.volume.dtype.itemsize
        rows, columns = self._frames[0].size
        return 2 * rows * columns * len(self) if self._several else 0

    def file(self, index: int) -> Path:
        """The file that holds the pixels of a slice.  Raises InputError `bad-index`."""
        self._check(index)
        return self.volume.path if self.volume is not None else self._frames[index].path

    def load(self) -> None:
        """Read the voxels that all slices share, if they are not there yet: what fails here fails for every slice.  Raises InputError."""
        if self.volume is not None and self._stored is None:
            self.volume, self._stored = nifti.read_stored(self.volume.path)

    def read(self, index: int) -> LoadedImage:
        """One slice; the affine places it as a volume of one voxel in z.  Raises InputError, `bad-index` when there is none."""
        self._check(index)
        values, affine, facts = self._from_nifti(index) if self.volume is not None else self._from_dicom(index)
        image, facts["clipped_voxels"] = to_lattice(values, "hu")
        facts["spacing_mm"] = np.linalg.norm(affine[:3, :3], axis=0).tolist()
        return LoadedImage(np.ascontiguousarray(image)[None], "hu", "xy", affine, None, None, facts)

    @property
    def _frames(self) -> tuple[Frame, ...]:
        assert self.stack is not None
        return self.stack.frames

    def _check(self, index: int) -> None:
        if not 0 <= index < len(self):
            raise InputError("bad-index")

    def _from_nifti(self, index: int) -> tuple[NDArray[Any], NDArray[np.float64], dict[str, Any]]:
        self.load()
        assert self.volume is not None
        assert self._stored is not None
        values = self.volume.scaled(self._stored[:, :, index])
        check_hu(values)
        affine = self.volume.affine.copy()
        affine[:3, 3] += self.volume.affine[:3, 2] * index
        return values, affine, ct_facts("nifti", [])

    def _from_dicom(self, index: int) -> tuple[NDArray[Any], NDArray[np.float64], dict[str, Any]]:
        assert self.stack is not None
        frame = self.stack.frames[index]
        source = self._source(frame.path)
        stored = source.frame(frame.index)
        facts = ct_facts("dicom", frame.notes, source.syntax)
        facts["padding_voxels"] = padding_voxels(stored, frame)
        return rescaled(stored, frame).T, self.stack.affine(index), facts

    def _source(self, path: Path) -> PixelSource:
        kept = self._shared
        if kept is not None and kept[0] == path:
            return kept[1]
        source = PixelSource(read_dataset(path, pixels=True), path)
        if self._several:
            self._shared = (path, source)
        return source
