"""How chunks are compressed: gzip that any HDF5 reads, packed as small as deflate allows; SZIP, Blosc2, Zstd, LZ4 or none by choice.

Every chunk ends with HDF5's Fletcher32 checksum: without it a flipped bit in Blosc2, Zstd or uncompressed data is silent. A new codec is a
branch in `filters` and a name in `Codec` (`spec/execution.py`).
"""

import contextlib
import math
import zlib
from collections.abc import Iterator
from typing import Any

import h5py
import numpy as np
from imagecodecs import h5checksum_fletcher32, lz4h5_decode

from medadv.common.errors import SpecError
from medadv.common.threads import in_order
from medadv.datasets.labels import Array
from medadv.store.layout import is_move

# Registers its filters with HDF5 where it is installed.
with contextlib.suppress(ImportError):
    import hdf5plugin

GZIP_LEVEL = 1
PACKED_LEVEL = 6
ZSTD_LEVEL = 9
LZ4 = 32004
"""The filter's number with the HDF Group."""
SZIP_BLOCK = 16
"""Values that share one Rice code: 8 and 32 gave larger photographs."""

STRATEGIES = ((zlib.Z_RLE, 8), (zlib.Z_FILTERED, 7), (zlib.Z_DEFAULT_STRATEGY, 7))
"""Deflate strategies and memory levels (with less memory, Huffman codes adapt more often).

Perturbations are nearly noise on a few values, where looking for repeats wastes bits that Huffman codes would save: Z_RLE packs them
smallest. Others suit images better. All give deflate streams that every HDF5 reads.
"""


def require_codec(codec: str) -> None:
    """Raise SpecError where a corpus's codec cannot be used here."""
    if codec == "szip" and not h5py.h5z.filter_avail(h5py.h5z.FILTER_SZIP):
        raise SpecError("execution.codec=szip needs an HDF5 built with SZIP, as in h5py's wheels; corpora with codec: gzip do without")
    if codec in ("blosc2", "zstd", "lz4") and "hdf5plugin" not in globals():
        raise SpecError(f"execution.codec={codec} needs hdf5plugin: pip install 'medadv[codecs]'; corpora with codec: gzip do without")


def filters(name: str, dtype: Any, chunks: tuple[int, ...] | None, codec: str) -> dict[str, Any]:
    """Arguments of create_dataset for an array of a shard; without chunks HDF5 allows no filter.

    `szip` is for 8-bit images, whose neighbours it predicts; HU and perturbations grow with it, and stay gzip.
    """
    if chunks is None:
        return {}
    require_codec(codec)
    common = {"chunks": chunks, "fletcher32": True}
    if codec == "none":
        return common
    if codec == "szip" and _suits_szip(name, dtype, chunks):
        return {**common, "compression": "szip", "compression_opts": ("nn", SZIP_BLOCK)}
    if codec in ("gzip", "szip"):
        return {**common, "compression": "gzip", "compression_opts": GZIP_LEVEL, "shuffle": True}
    if codec == "blosc2":
        # One thread: workers share the cores already.
        return {**common, "compression": hdf5plugin.Blosc2(cname="zstd", clevel=ZSTD_LEVEL, filters=hdf5plugin.Blosc2.SHUFFLE)}
    if codec == "lz4":
        # Bytes have nothing to shuffle, and without that step `unpacked_lz4` is all there is to do.
        return {**common, "compression": hdf5plugin.LZ4(), "shuffle": np.dtype(dtype).itemsize > 1}
    return {**common, "compression": hdf5plugin.Zstd(clevel=ZSTD_LEVEL), "shuffle": True}


def unpacked_lz4(data: bytes | memoryview, size: int) -> bytes:
    """A chunk of HDF5's LZ4 filter that holds `size` bytes. ValueError where it does not."""
    try:
        found = lz4h5_decode(data, out=size)  # type: ignore[arg-type]  # any buffer will do, whatever its stub says
    except RuntimeError as error:
        raise ValueError(f"not packed with LZ4: {error}") from None
    if len(found) != size:
        raise ValueError(f"{len(found)} bytes where {size} were packed")
    return bytes(found)


def is_packed(name: str, dataset: Any) -> bool:
    """Whether an array is deflated and large enough to be worth packing."""
    return dataset.compression == "gzip" and (name == "image" or is_move(name))


def _suits_szip(name: str, dtype: Any, chunks: tuple[int, ...]) -> bool:
    return name == "image" and np.dtype(dtype) == np.uint8 and math.prod(chunks) >= SZIP_BLOCK


def write_packed(dataset: Any, first: int, rows: Array, threads: int = 1) -> None:
    """Write rows into a gzip dataset, each chunk as the smallest of several deflate streams.

    dataset: [n, …] with one row a chunk, or bricks of one.  first: row where `rows` start.  threads: to pack in; the bytes are the same.
    """
    for place, data in in_order(_packed_at, _blocks(dataset.chunks, first, rows), threads):
        dataset.id.write_direct_chunk(place, data)


def _blocks(chunk: tuple[int, ...], first: int, rows: Array) -> Iterator[tuple[tuple[int, ...], Array]]:
    for row, values in enumerate(rows, start=first):
        grid = [range(0, length, step) for length, step in zip(values.shape, chunk[1:], strict=True)]
        for corner in np.ndindex(*(len(steps) for steps in grid)):
            start = tuple(steps[i] for steps, i in zip(grid, corner, strict=True))
            part = values[tuple(slice(s, s + step) for s, step in zip(start, chunk[1:], strict=True))]
            # HDF5 stores whole chunks, also at the far ends of an array.
            block = np.pad(part, [(0, step - length) for length, step in zip(part.shape, chunk[1:], strict=True)])
            yield (row, *start), block


def _packed_at(placed: tuple[tuple[int, ...], Array]) -> tuple[tuple[int, ...], bytes]:
    place, block = placed
    return place, packed(block)


def packed(block: Array) -> bytes:
    """One chunk after shuffle, deflate and Fletcher32."""
    shuffled = np.ascontiguousarray(block).reshape(-1).view(np.uint8).reshape(-1, block.dtype.itemsize).T.tobytes()
    streams = []
    for strategy, memory in STRATEGIES:
        stream = zlib.compressobj(PACKED_LEVEL, zlib.DEFLATED, zlib.MAX_WBITS, memory, strategy)
        streams.append(stream.compress(shuffled) + stream.flush())
    smallest = min(streams, key=len)
    return smallest + fletcher32(smallest).to_bytes(4, "little")


def fletcher32(data: bytes | memoryview) -> int:
    """HDF5's Fletcher-32 of a chunk (H5_checksum_fletcher32), in a fraction of the time that the HDF5 of h5py's wheels takes."""
    # Any buffer will do, whatever its stub says.
    return int(h5checksum_fletcher32(data)) if len(data) else 0  # type: ignore[arg-type]
