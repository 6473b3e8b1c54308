"""Write shards so that what is on disk is what was meant, whatever happens on the way."""

import os
from pathlib import Path
from typing import Any

import h5py

from medadv.store.layout import ShardContent, chunks_of

LIBVER = ("v110", "v110")
"""Readable by every HDF5 since 1.10."""
GZIP_LEVEL = 1


def write_content(path: Path, content: ShardContent, spatial: int) -> None:
    """Add attributes and arrays to a shard file, made when missing, and flush it to the disk.

    spatial: number of spatial axes, which decides the chunks.
    """
    with h5py.File(path, "a", libver=LIBVER) as file:
        for name, array in content.arrays.items():
            file.create_dataset(name, data=array, track_times=False, **_filters(chunks_of(name, array.shape, spatial)))
        for group, attributes in content.attributes.items():
            target = file.require_group(group) if group != "/" else file
            for key, value in attributes.items():
                target.attrs[key] = value
    sync(path)


def _filters(chunks: tuple[int, ...] | None) -> dict[str, Any]:
    if chunks is None:
        return {}
    return {"chunks": chunks, "compression": "gzip", "compression_opts": GZIP_LEVEL, "shuffle": True, "fletcher32": True}


def sync(path: Path) -> None:
    """fsync a file or folder."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def publish(temporary: Path, final: Path) -> None:
    """Give a finished file its name; an existing file of that name is replaced in one step, and the folder is flushed."""
    temporary.replace(final)
    sync(final.parent)


def write_file(final: Path, data: bytes) -> None:
    """Write a small file atomically: temporary name beside it, fsync, rename."""
    temporary = final.with_name(f".tmp-{final.name}-{os.getpid()}")
    try:
        with temporary.open("wb") as stream:
            stream.write(data)
            stream.flush()
            os.fsync(stream.fileno())
        publish(temporary, final)
    finally:
        temporary.unlink(missing_ok=True)
