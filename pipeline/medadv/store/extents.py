"""Which bytes of a shard file hold which sample of which array: damage is named without handing a damaged file to HDF5."""

import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import h5py

from medadv.store.reader import dataset_names

Extents = dict[str, list[tuple[int | None, int, int, int]]]
"""Array -> (sample, offset, bytes, CRC-32) of each stored piece; the sample is None where a piece holds those of several samples."""


def find_extents(path: Path) -> Extents:
    """The pieces of every array of a shard, for its receipt.

    The CRC only tells which piece changed; that something changed is for the SHA-256 of the file to say.
    """
    with h5py.File(path, "r") as file, path.open("rb") as stream:
        return {
            name: [(sample, offset, size, _checksum(stream, offset, size)) for sample, offset, size in _pieces(file[name])]
            for name in dataset_names(file)
        }


def damaged_pieces(path: Path, extents: Extents) -> Iterator[tuple[str, int | None]]:
    """(array, sample) of every piece whose bytes changed or are gone, once each."""
    with path.open("rb") as stream:
        for name, pieces in extents.items():
            wrong = (sample for sample, offset, size, checksum in pieces if _checksum(stream, offset, size) != checksum)
            for sample in dict.fromkeys(wrong):
                yield name, sample


def _pieces(dataset: Any) -> Iterator[tuple[int | None, int, int]]:
    if dataset.chunks is None:
        if dataset.id.get_offset() is not None:
            yield None, dataset.id.get_offset(), dataset.id.get_storage_size()
        return
    for number in range(dataset.id.get_num_chunks()):
        chunk = dataset.id.get_chunk_info(number)
        sample = chunk.chunk_offset[0] if dataset.chunks[0] == 1 else None
        yield sample, chunk.byte_offset, chunk.size


def _checksum(stream: Any, offset: int, size: int) -> int:
    """CRC-32 of a piece, -1 where the file ends before it does."""
    stream.seek(offset)
    data = stream.read(size)
    return zlib.crc32(data) if len(data) == size else -1
