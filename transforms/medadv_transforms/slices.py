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
from .hounsfield import check_hu, ct_facts, header_facts, in_hu, padding_voxels, rescaled, unscaled
from .loaded import LoadedImage
from .pixels import PixelSource
from .resample import Grid, Spacing
from .stack import stacked
from .units import LATTICES, to_lattice
from .volume import Files, paths_of, read_volume, slice_affine, stored_grid

Parts = tuple[NDArray[Any], NDArray[np.float64], dict[str, Any]]


class CTSlices(ABC):
    """The slices of one CT, each (1, x, y) int16 HU as `read_ct_slice` gives it; `len()` says how many there are.

    Headers are read when it is made, what all slices share of the pixels by `load` or for the first slice. The files are not looked at
    again: whoever keeps the object sees to it that they stay what they were.

    shape: (x, y, z).  nbytes: of the pixels that slices share, 0 where each slice is a file by itself.  native: the grid of the files, None
    before it is known and where slices are not evenly spaced.
    """

    shape: tuple[int, int, int]
    nbytes: int
    native: Grid | None

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
        """The file that holds the pixels of a slice, or the first of those that do."""

    @abstractmethod
    def says_hu(self) -> bool:
        """Whether the files say that they hold HU; reads as few voxels as it takes.  Raises InputError."""

    def read(self, index: int) -> LoadedImage:
        """One slice; the affine places it as a volume of one voxel in z.  Raises InputError, `bad-index` when there is none."""
        if not 0 <= index < len(self):
            raise InputError("bad-index")
        if not self.loaded:
            self.load()
        image, affine, facts = self._parts(index)
        facts["spacing_mm"] = np.linalg.norm(affine[:3, :3], axis=0).tolist()
        return LoadedImage(np.ascontiguousarray(image)[None], "hu", "xy", affine, None, None, facts, self.native)

    @abstractmethod
    def _parts(self, index: int) -> Parts:
        """A slice (x, y) on the lattice, affine and facts."""


def open_slices(
    files: Files,
    *,
    spacing: Spacing | None = None,
    orientation: str | None = None,
    offset: int | None = None,
    allow_burned_in: bool = False,
) -> CTSlices:
    """Open a CT to read single slices of it; arguments and errors as those of `read_ct_slice`."""
    paths = paths_of(files)
    if spacing is not None or orientation is not None:
        return _StoredSlices(paths, spacing, orientation, offset, allow_burned_in)
    if nifti.is_nifti(paths[0]):
        return _NiftiSlices(paths[0], offset)
    return _SeriesSlices(paths, offset, allow_burned_in)


class _NiftiSlices(CTSlices):
    """The planes of a volume along z, which lie in one stream: all of it is unpacked, once."""

    def __init__(self, path: Path, offset: int | None) -> None:
        self._offset = offset
        self._header = nifti.read_header(path)
        self._stored: NDArray[Any] | None = None
        self._unstated = self._header.unstated
        self.shape, self.native = self._header.shape, Grid(self._header.shape, self._header.affine)
        self.nbytes = math.prod(self.shape) * self._header.dtype.itemsize

    @property
    def loaded(self) -> bool:
        return self._stored is not None

    def load(self) -> None:
        if self._stored is None:
            self._header, stored = nifti.read_stored(self._header.path)
            self._unstated, self._stored = self._header.unstated and bool(stored.min() >= 0), stored

    def file(self, index: int) -> Path:
        return self._header.path

    def says_hu(self) -> bool:
        return not self._unstated or (not self.loaded and nifti.holds_negative(self._header))

    def _parts(self, index: int) -> Parts:
        assert self._stored is not None
        values = self._header.scaled(self._stored[:, :, index])
        check_hu(values)
        values, said = in_hu(values, self._unstated, self._offset)
        image, clipped = to_lattice(values, "hu")
        grid = Grid(self._header.shape, self._header.affine)
        return image, slice_affine(grid, index), {**ct_facts("nifti", []), **said, "clipped_voxels": clipped}


class _SeriesSlices(CTSlices):
    """The frames of a DICOM series in order along their normal. A file with several frames is parsed once for all of them."""

    def __init__(self, paths: Sequence[Path], offset: int | None, allow_burned_in: bool) -> None:
        self._offset = offset
        self._stack = stacked(read_frames(paths, allow_burned_in=allow_burned_in), even=False)
        self.shape = self._stack.shape
        self.native = None if self._stack.spacing_z is None else Grid(self._stack.shape, self._stack.affine())
        frames = Counter(frame.path for frame in self._stack.frames)
        self._only = next(iter(frames)) if len(frames) == 1 else None
        most = max(frames.values())
        self.nbytes = 2 * self.shape[0] * self.shape[1] * most if most > 1 else 0
        self._kept: tuple[Path, PixelSource] | None = None
        # Without a rescale only pixels can tell, and only where they may be negative.
        open_yet = unscaled(self._stack.frames)
        self._unstated = None if open_yet and any(frame.signed for frame in self._stack.frames) else open_yet

    @property
    def loaded(self) -> bool:
        return self._unstated is not None and (self._only is None or not self.nbytes or self._kept is not None)

    def load(self) -> None:
        self.says_hu()
        if not self.loaded and self._only is not None:
            self._source(self._only)

    def file(self, index: int) -> Path:
        return self._stack.frames[index].path

    def says_hu(self) -> bool:
        if self._unstated is None:
            signed = [frame for frame in self._stack.frames if frame.signed]
            self._unstated = not any(self._source(frame.path).frame(frame.index).min() < 0 for frame in signed)
        return not self._unstated

    def _parts(self, index: int) -> Parts:
        frame = self._stack.frames[index]
        source = self._source(frame.path)
        stored = source.frame(frame.index)
        facts = ct_facts("dicom", frame.notes, source.syntax) | header_facts([frame])
        facts["padding_voxels"] = padding_voxels(stored, frame)
        values, said = in_hu(rescaled(stored, frame).T, bool(self._unstated), self._offset)
        image, clipped = to_lattice(values, "hu")
        return image, self._stack.affine(index), {**facts, **said, "clipped_voxels": clipped}

    def _source(self, path: Path) -> PixelSource:
        kept = self._kept
        if kept is not None and kept[0] == path:
            return kept[1]
        source = PixelSource(read_dataset(path, pixels=True), path)
        if self.nbytes:
            self._kept = (path, source)
        return source


class _StoredSlices(CTSlices):
    """The slices of a volume that is reoriented or resampled as a whole, once."""

    def __init__(
        self, paths: Sequence[Path], spacing: Spacing | None, orientation: str | None, offset: int | None, allow_burned_in: bool
    ) -> None:
        self._paths, self._burned_in = list(paths), allow_burned_in
        self._how = (spacing, orientation, offset, allow_burned_in)
        self._grid, _ = stored_grid(paths, spacing, orientation, allow_burned_in)
        self.shape, self.native = self._grid.shape, None
        self.nbytes = 2 * math.prod(self.shape)
        self._planes: NDArray[Any] | None = None
        self._clipped: list[int] = []
        self._facts: dict[str, Any] = {}

    @property
    def loaded(self) -> bool:
        return self._planes is not None

    def load(self) -> None:
        if self._planes is not None:
            return
        values, self.native, self._grid, facts = read_volume(self._paths, *self._how)
        # What counts voxels of the whole volume, or leads back to its grid, is no fact of a slice.
        self._facts = {key: value for key, value in facts.items() if key not in ("resampling", "padding_voxels")}
        planes = np.empty(values.shape[::-1], LATTICES["hu"].dtype)
        self._clipped = []
        for z in range(values.shape[2]):
            plane, clipped = to_lattice(values[:, :, z], "hu")
            planes[z] = plane.T
            self._clipped.append(clipped)
        self._planes = planes

    def file(self, index: int) -> Path:
        return self._paths[0]

    def says_hu(self) -> bool:
        return open_slices(self._paths, allow_burned_in=self._burned_in).says_hu()

    def _parts(self, index: int) -> Parts:
        assert self._planes is not None
        facts = {**self._facts, "clipped_voxels": self._clipped[index]}
        return self._planes[index].T, slice_affine(self._grid, index), facts
