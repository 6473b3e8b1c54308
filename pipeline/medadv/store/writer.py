"""Write shards so that what is on disk is what was meant, whatever happens on the way."""

from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Any

import h5py

from medadv.common.files import sync
from medadv.datasets.labels import Array
from medadv.store.codecs import filters, is_packed, write_packed
from medadv.store.layout import ShardContent, chunks_of

LIBVER = ("v110", "v110")
"""Readable by every HDF5 since 1.10."""


def write_content(path: Path, content: ShardContent, spatial: int, codec: str = "gzip") -> None:
    """Add attributes and arrays to a shard file, made when missing, and flush it to the disk.

    spatial: number of spatial axes, which decides the chunks.
    """
    with h5py.File(path, "a", libver=LIBVER) as file:
        for name, array in content.arrays.items():
            _write_rows(name, _create(file, name, array.shape, array.dtype, spatial, codec), 0, array)
        for group, attributes in content.attributes.items():
            target = file.require_group(group) if group != "/" else file
            for key, value in attributes.items():
                target.attrs[key] = value
    sync(path)


class GridFile:
    """A new shard file whose arrays on the image grid are written batch by batch, while the next batch is attacked.

    One thread writes, in order, so that the same batches give the same bytes; `threads` pack beside it.
    """

    def __init__(self, path: Path, rows: int, spatial: int, codec: str = "gzip", threads: int = 1) -> None:
        self.path, self.rows, self.spatial, self.codec, self.threads = path, rows, spatial, codec, threads
        self.thread = ThreadPoolExecutor(1, thread_name_prefix="writing")
        self.written = 0
        self.file: Any = None
        self.last: Future[None] | None = None

    def append(self, arrays: dict[str, Array]) -> None:
        """Add the rows of a batch, (n, ...) each; waits for the batch before, whose failure is raised here."""
        if self.last is not None:
            self.last.result()
        self.last = self.thread.submit(self._append, arrays)

    def close(self) -> bool:
        """Finish; False when fewer rows came than were promised, so that the file must be written anew."""
        try:
            if self.last is not None:
                self.last.result()
        finally:
            # Whatever went wrong, the file must not stay open in this process.
            self.thread.submit(self._close).result()
            self.thread.shutdown()
        return self.written == self.rows

    def _append(self, arrays: dict[str, Array]) -> None:
        if self.file is None:
            self.file = h5py.File(self.path, "w", libver=LIBVER)
        count = len(next(iter(arrays.values())))
        for name, array in arrays.items():
            if name not in self.file:
                _create(self.file, name, (self.rows, *array.shape[1:]), array.dtype, self.spatial, self.codec)
            _write_rows(name, self.file[name], self.written, array, self.threads)
        self.written += count

    def _close(self) -> None:
        if self.file is not None:
            self.file.close()


def _create(file: Any, name: str, shape: tuple[int, ...], dtype: Any, spatial: int, codec: str) -> Any:
    return file.create_dataset(name, shape, dtype, track_times=False, **filters(name, dtype, chunks_of(name, shape, spatial), codec))


def _write_rows(name: str, dataset: Any, first: int, rows: Array, threads: int = 1) -> None:
    if is_packed(name, dataset):
        write_packed(dataset, first, rows, threads)
    elif rows.size:
        dataset[first : first + len(rows)] = rows
