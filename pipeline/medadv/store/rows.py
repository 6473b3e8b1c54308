"""How does training read one sample after the other from an open shard, fast, and every byte checked?"""

from typing import Any, Literal

import h5py
import numpy as np

from medadv.datasets.labels import Array, Boxes, Label
from medadv.store.codecs import LZ4, fletcher32, unpacked_lz4

KEPT = 1 << 20
"""Bytes of an array that stays in memory once it was read and checked: ids, results and labels of a shard."""
CHECKSUM = 4
Way = Literal["none", "lz4"]
WAYS: dict[tuple[int, ...], Way] = {(h5py.h5z.FILTER_FLETCHER32,): "none", (LZ4, h5py.h5z.FILTER_FLETCHER32): "lz4"}
"""What is read here, by its filters."""


class Rows:
    """An open shard, with what each sample needs at hand: looking a name up in HDF5 takes longer than reading a small picture.

    One sample's image or perturbation that is one chunk, stored as it is or in LZ4, is read past HDF5's filters, which take longer.
    """

    def __init__(self, file: Any) -> None:
        self.file = file
        self._found: dict[str, object] = {}
        self._small: dict[str, Array] = {}
        self._ways: dict[str, Way | None] = {}

    def has(self, name: str) -> bool:
        """Whether the shard has such an array or group."""
        return self._at(name) is not None

    def array(self, name: str) -> Any:
        """An array of the shard, or a group, as h5py has it. KeyError where there is none."""
        found = self._at(name)
        if found is None:
            raise KeyError(name)
        return found

    def value(self, name: str, row: Any) -> Any:
        """A row, or a slice of rows, of an array that is small for each sample."""
        if name not in self._small:
            found = self.array(name)
            if found.size * found.dtype.itemsize > KEPT:
                return found[row]
            self._small[name] = found[...]
        return self._small[name][row]

    def text(self, name: str, row: int) -> str:
        """An id."""
        return bytes(self.value(name, row)).decode()

    def answer(self, name: str, row: int) -> Label:
        """A label or prediction that is no mask."""
        if isinstance(self.array(name), h5py.Dataset):
            return np.array(self.value(name, row))
        low, high = self.value(f"{name}/offsets", slice(row, row + 2))
        boxes, classes = (np.array(self.value(f"{name}/{part}", slice(low, high))) for part in ("boxes", "classes"))
        scores = np.array(self.value(f"{name}/scores", slice(low, high))) if self.has(f"{name}/scores") else None
        return Boxes(boxes, classes, scores)

    def whole(self, name: str, row: int, *, check: bool) -> Array:
        """One sample of an array on the image grid; perhaps read-only.

        check: hold a chunk that is read past HDF5 against its checksum. HDF5 does so with all others, whatever this says.
        Raises OSError where the bytes are not what was written.
        """
        found = self.array(name)
        way = self._way(name, found)
        if way is None:
            return np.asarray(found[row])
        try:
            mask, data = found.id.read_direct_chunk((row,) + (0,) * (found.ndim - 1))
        except (RuntimeError, ValueError) as error:
            raise OSError(f"{name} of row {row} cannot be read: {error}") from None
        count, size = len(data) - CHECKSUM, found.dtype.itemsize * found.size // len(found)
        if mask or count < 0 or (way == "none" and count != size):
            raise OSError(f"{name} of row {row} is no chunk with a checksum")
        values: bytes | memoryview = memoryview(data)[:count]
        if check and fletcher32(values) != int.from_bytes(data[count:], "little"):
            raise OSError(f"{name} of row {row} differs from its checksum")
        if way == "lz4":
            try:
                values = unpacked_lz4(values, size)
            except ValueError as error:
                raise OSError(f"{name} of row {row}: {error}") from None
        return np.frombuffer(values, found.dtype).reshape(found.shape[1:])

    def _at(self, name: str) -> Any:
        if name not in self._found:
            self._found[name] = self.file.get(name)
        return self._found[name]

    def _way(self, name: str, found: Any) -> Way | None:
        """How each sample is stored where it is one chunk with a checksum and what is read here; None for all that HDF5 has to read."""
        if name not in self._ways:
            made = found.id.get_create_plist()
            filters = tuple(made.get_filter(number)[0] for number in range(made.get_nfilters()))
            self._ways[name] = WAYS.get(filters) if found.chunks == (1, *found.shape[1:]) else None
        return self._ways[name]
