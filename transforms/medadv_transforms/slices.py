"""A CT that is read slice by slice: what its slices share is read once, and kept with the object."""

import math
from abc import ABC, abstractmethod
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from . import nifti
from .errors import InputError
from .frames import read_dataset, read_frames
from .hounsfield import check_hu, ct_facts, header_facts, padding_voxels, rescaled
from .loaded import LoadedImage
from .pixels import PixelSource
from .stack import stacked
from .units import to_lattice

Parts = tuple[NDArray[Any], NDArray[np.float64], dict[str, Any]]


class CTSlices(ABC):
    """The slices of one CT, each (1, x, y) int16 HU as `read_ct_slice` gives it; `len()` says how many there are.

    Headers are read when it is made, what all slices share of the pixels by `load` or for the first slice. The files are not looked at
    again: whoever keeps the object sees to it that they stay what they were.

    shape: (x, y, z).  nbytes: of the pixels that slices share, 0 where each slice is a file by itself.
    """

    shape: tuple[int, int, int]
    nbytes: int

    def __len__(self) -> int:
        return self.shape[2]

    @property
    @abstractmethod
    def loaded(self) -> bool:
        """Whether `load` has nothing to do."""

    @abstractmethod
    def load(self) -> None:
        """Read the pixels that all slices share: what fails here fails for every slice.  Raises InputError."""

    @abstractmethod
    def file(self, index: int) -> Path:
        """The file that holds the pixels of a slice."""

    def read(self, index: int) -> LoadedImage:
        """One slice; the affine places it as a volume of one voxel in z.  Raises InputError, `bad-index` when there is none."""
        if not 0 <= index < len(self):
            raise InputError("bad-index")
        values, affine, facts = self._parts(index)
        image, facts["clipped_voxels"] = to_lattice(values, "hu")
        facts["spacing_mm"] = np.linalg.norm(affine[:3, :3], axis=0).tolist()
        return LoadedImage(np.ascontiguousarray(image)[None], "hu", "xy", affine, None, None, facts)

    @abstractmethod
    def _parts(self, index: int) -> Parts:
        """Values (x, y) in HU, affine and facts of a slice."""


def open_slices(files: Sequence[str | Path], *, allow_burned_in: bool = False) -> CTSlices:
    """Open a CT to read single slices of it. files: one NIfTI file, or all files of one DICOM series in any order.  Raises InputError."""
    paths = [Path(file) for file in files]
    if not paths:
        raise InputError("empty-input")
    if any(nifti.is_nifti(path) for path in paths):
        if len(paths) > 1:
            raise InputError("mixed-series", "a NIfTI image is one file")
        return _NiftiSlices(paths[0])
    return _SeriesSlices(paths, allow_burned_in)


class _NiftiSlices(CTSlices):
    """The planes of a volume along z, which lie in one stream: all of it is unpacked, once."""

    def __init__(self, path: Path) -> None:
        self._header = nifti.read_header(path)
        self._stored: NDArray[Any] | None = None
        self.shape = self._header.shape
        self.nbytes = math.prod(self.shape) * self._header.dtype.itemsize

    @property
    def loaded(self) -> bool:
        return self._stored is not None

    def load(self) -> None:
        if self._stored is None:
            self._header, self._stored = nifti.read_stored(self._header.path)

    def file(self, index: int) -> Path:
        return self._header.path

    def _parts(self, index: int) -> Parts:
        self.load()
        assert self._stored is not None
        values = self._header.scaled(self._stored[:, :, index])
        check_hu(values)
        affine = self._header.affine.copy()
        affine[:3, 3] += self._header.affine[:3, 2] * index
        return values, affine, ct_facts("nifti", [])


class _SeriesSlices(CTSlices):
    """The frames of a DICOM series in order along their normal. A file with several frames is parsed once for all of them."""

    def __init__(self, paths: Sequence[Path], allow_burned_in: bool) -> None:
        self._stack = stacked(read_frames(paths, allow_burned_in=allow_burned_in), even=False)
        self.shape = self._stack.shape
        frames = Counter(frame.path for frame in self._stack.frames)
        self._only = next(iter(frames)) if len(frames) == 1 else None
        most = max(frames.values())
        self.nbytes = 2 * self.shape[0] * self.shape[1] * most if most > 1 else 0
        self._kept: tuple[Path, PixelSource] | None = None

    @property
    def loaded(self) -> bool:
        return self._only is None or not self.nbytes or self._kept is not None

    def load(self) -> None:
        if not self.loaded and self._only is not None:
            self._source(self._only)

    def file(self, index: int) -> Path:
        return self._stack.frames[index].path

    def _parts(self, index: int) -> Parts:
        frame = self._stack.frames[index]
        source = self._source(frame.path)
        stored = source.frame(frame.index)
        facts = ct_facts("dicom", frame.notes, source.syntax) | header_facts([frame])
        facts["padding_voxels"] = padding_voxels(stored, frame)
        return rescaled(stored, frame).T, self._stack.affine(index), facts

    def _source(self, path: Path) -> PixelSource:
        kept = self._kept
        if kept is not None and kept[0] == path:
            return kept[1]
        source = PixelSource(read_dataset(path, pixels=True), path)
        if self.nbytes:
            self._kept = (path, source)
        return source
