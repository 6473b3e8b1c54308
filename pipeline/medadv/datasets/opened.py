"""Sources of many samples, opened once: the slices of a series or volume share headers, voxels, mask and hashes."""

import math
import os
import threading
from collections.abc import Callable, Iterable, Sequence
from functools import partial
from pathlib import Path
from typing import TypeVar

from medadv.datasets.blame import raise_unless_input
from medadv.datasets.source import Source
from medadv_transforms import CTSlices, InputError, LoadedImage, MaskVolume, open_mask, open_slices
from medadv_transforms.mask_classes import LabelMap

KEPT = 4
"""Sources that stay open: samples come in the order of their sources, and threads that load a batch may be a source apart."""

KEPT_BYTES = 64 << 20
"""Voxels that they may hold together. The source that is being read stays open, whatever its size."""

Made = TypeVar("Made")
Stamp = tuple[int, int, int, int, int]
SlicesOf = Callable[[Sequence[Path]], CTSlices]


def stamp_of(status: os.stat_result) -> Stamp:
    """What changes when a file does: device, inode, size and both times."""
    return status.st_dev, status.st_ino, status.st_size, status.st_mtime_ns, status.st_ctime_ns


def _stamp(path: Path) -> Stamp | None:
    try:
        return stamp_of(path.stat())
    except OSError:
        return None


class OpenSource:
    """What the samples of one source share; each part is read when it is first asked for. For several threads."""

    def __init__(self, root: Path, source: Source, slices_of: SlicesOf, room: Callable[["OpenSource", int], None]) -> None:
        """slices_of: opens files as slices.  room: called before it holds so many more bytes."""
        self.source = source
        self._files, self._mask_files = ([root / name for name in names] for names in (source.images, source.masks))
        # Before anything is read: what changes while it is read must not pass for what was read.
        self._stamps = {path: _stamp(path) for path in (*self._files, *self._mask_files)}
        self.there = all(self._stamps[path] is not None for path in self._files)
        """Whether every image file could be asked for its state."""
        self.content: tuple[str, str] | None = None
        """Hashes of the images and of the label, once somebody made them."""
        self.look = 0
        """In which look at the sources its files were last compared with their stamps, all of them."""
        self._slices_of, self._room = slices_of, room
        self._slices: CTSlices | None = None
        self._mask: MaskVolume | None = None
        self._refused: dict[str, InputError] = {}
        self._lock = threading.RLock()

    def is_of(self, source: Source) -> bool:
        """Whether it is this source's."""
        mine = self.source
        # The slices of a shard share the list of their series, so that it is rarely compared name by name.
        return (mine.images is source.images or mine.images == source.images) and mine.label == source.label

    def same(self, index: int | None) -> bool:
        """Whether the files are what they were: all of them, or those that hold a slice."""
        slices = self._slices
        paths: Iterable[Path] = self._stamps
        if index is not None and slices is not None and index < len(slices):
            paths = (slices.file(index), *self._mask_files)
        return all(self._stamps[path] is not None and self._stamps[path] == _stamp(path) for path in paths)

    @property
    def nbytes(self) -> int:
        """Bytes of voxels that it holds."""
        held = self._slices.nbytes if self._slices is not None and self._slices.loaded else 0
        return held + (self._mask.nbytes if self._mask is not None else 0)

    @property
    def slices(self) -> CTSlices:
        """The slices, from headers alone.  Raises InputError."""
        with self._lock:
            if self._slices is None:
                self._slices = self._once("headers", lambda: self._slices_of(self._files))
            return self._slices

    def image(self, index: int) -> LoadedImage:
        """A slice.  Raises InputError."""
        with self._lock:
            slices = self.slices
            if not slices.loaded:
                self._room(self, slices.nbytes)
                self._once("voxels", slices.load)
        return slices.read(index)

    def mask(self, like: LoadedImage, label_map: LabelMap | None, *, multilabel: bool, ignore: int | None, voxels: bool) -> MaskVolume:
        """The mask of a slice, the same for all of them; arguments as those of `open_mask`.  Raises InputError."""
        with self._lock:
            if self._mask is None or not self._mask.fits(like):
                self._mask = None
                self._room(self, math.prod(self.slices.shape) * len(self._mask_files))
                how = partial(open_mask, multilabel=multilabel, ignore=ignore, voxels=voxels)
                self._mask = self._once("mask", lambda: how(self._mask_files, like, label_map))
            return self._mask

    def _once(self, what: str, read: Callable[[], Made]) -> Made:
        """Read what the samples share. What is refused for one of them is refused for all, and not read again."""
        if refused := self._refused.get(what):
            raise InputError(refused.code, refused.message)
        try:
            return read()
        except InputError as error:
            raise_unless_input(error)
            self._refused[what] = error
            raise


class OpenSources:
    """The sources that were read from last, in bounded memory. For several threads."""

    def __init__(self, root: Path, slices_of: SlicesOf = open_slices) -> None:
        self.root, self._slices_of = root, slices_of
        self._open: list[OpenSource] = []  # the last one asked for comes last
        self._look = 0
        self._lock = threading.Lock()

    def look_again(self) -> None:
        """Have all files of a source looked at once more when it is next asked for; until then only those that hold the sample are."""
        with self._lock:
            self._look += 1

    def drop(self, source: Source) -> None:
        """Close a source, where it is open."""
        with self._lock:
            self._open = [each for each in self._open if not each.is_of(source)]

    def get(self, source: Source) -> OpenSource:
        """The source, opened anew where one of its files changed."""
        with self._lock:
            found = next((each for each in reversed(self._open) if each.is_of(source)), None)
            if found is not None:
                self._open.remove(found)
                if not found.same(source.index if found.look == self._look else None):
                    found = None
            if found is None:
                found = OpenSource(self.root, source, self._slices_of, self._make_room)
                del self._open[: max(0, len(self._open) + 1 - KEPT)]
            found.look, found.source = self._look, source
            self._open.append(found)
            return found

    def _make_room(self, keep: OpenSource, more: int) -> None:
        with self._lock:
            others = [each for each in self._open if each is not keep]
            while others and more + keep.nbytes + sum(each.nbytes for each in others) > KEPT_BYTES:
                self._open.remove(others.pop(0))
