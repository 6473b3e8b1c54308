"""Read shards back, whole or sample by sample."""

import os
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import h5py
import numpy as np

from medadv.common.hashing import FileIdentity, file_identity
from medadv.datasets.labels import Array, Boxes, Label
from medadv.store import codecs as codecs
from medadv.store.examine import examine
from medadv.store.hold import ShardError, hold
from medadv.store.layout import ShardContent, Stored
from medadv.store.rows import Rows

CHUNK_CACHE = 4 << 20
"""Bytes that a volume's array keeps of its bricks. An array of whole samples keeps none: a shard would hold megabytes in every worker."""
OPEN_FILES = 128
"""Shards that a process keeps open for random access, at some 0.7 MB each; opening one takes as long as reading several pictures."""


def datasets(file: Any) -> dict[str, Stored]:
    """Every dataset of an open shard by its path, sorted."""
    found: dict[str, Stored] = {}
    file.visititems(lambda name, item: found.update({name: item}) if isinstance(item, h5py.Dataset) else None)
    return dict(sorted(found.items()))


def dataset_names(file: Any) -> list[str]:
    """Every dataset path of an open shard, sorted."""
    return list(datasets(file))


def read_content(path: Path) -> ShardContent:
    """All arrays of a shard that this program has just written, decoded and checked by HDF5's filters; attributes of the root."""
    with h5py.File(path, "r") as file:
        arrays = {name: np.asarray(file[name][...]) for name in dataset_names(file)}
        return ShardContent({"/": dict(file.attrs)}, arrays)


@contextmanager
def open_shard(path: Path, *, check: bool = True) -> Iterator[Any]:
    """An open h5py file, read-only, whoever wrote it: `hold` says what is taken for a shard.

    check: have another process open it first, since HDF5 may hang or crash on a damaged one; once a file and program.
    Raises ShardError where it is no shard, FileNotFoundError where there is none.
    """
    with _opened(path, check) as file:
        yield file


def _opened(path: Path, check: bool, **options: Any) -> Any:
    if check:
        # Its process holds the file against the layout, too.
        examine(path)
    try:
        file = h5py.File(path, "r", **options)
    except FileNotFoundError:
        raise
    except OSError:
        raise ShardError(f"{path}: HDF5 cannot open it; run `medadv verify`") from None
    if not check:
        try:
            hold(file)
        except ShardError as error:
            file.close()
            raise ShardError(f"{path}: {error}") from None
    return file


def sample_blocks(dataset: Any, index: int) -> Iterator[Array]:
    """One sample of an array [n, ...] in consecutive C-order pieces, cut along the chunks, so that a volume never lies in memory whole."""
    shape, chunks = dataset.shape[1:], (dataset.chunks or dataset.shape)[1:]
    # Cut along the first axis that the chunks cut; the axes before it (channels) are walked one by one.
    axis = next((a for a, (length, chunk) in enumerate(zip(shape, chunks, strict=True)) if 1 < chunk < length), None)
    if axis is None:
        yield np.asarray(dataset[index])
        return
    for outer in np.ndindex(*shape[:axis]):
        for start in range(0, shape[axis], chunks[axis]):
            yield np.asarray(dataset[(index, *outer, slice(start, start + chunks[axis]))])


def adversarial_image(image: Array, perturbation: Array) -> Array:
    """image + perturbation in the image's own type; the sum lies on the lattice by construction."""
    return image + perturbation.astype(image.dtype)


def read_small(path: Path) -> dict[str, Array]:
    """Everything of a shard but the arrays on the image grid: ids, labels and predictions that are no masks, scores."""
    with open_shard(path) as file:
        names = [n for n in dataset_names(file) if file[n].ndim < max(3, file["image"].ndim - 1)]
        return {name: np.asarray(file[name][...]) for name in names}


def spacing_of(affine: Array | None, axes: int) -> tuple[float, ...] | None:
    """Voxel spacing in mm along the first axes, as the readers derive it."""
    return None if affine is None else tuple(float(v) for v in np.linalg.norm(affine[:3, :3], axis=0)[:axes])


def read_texts(path: Path, name: str) -> list[str]:
    """A shard's array of ids."""
    with open_shard(path) as file:
        return [bytes(value).decode() for value in file[name][...]]


def open_files(path: Path, *, check: bool = True) -> Any:
    """An open shard for random access, kept open in this process as long as the path leads to the same file.

    A forked child opens its own.  check: as in `open_shard`. FileNotFoundError where there is no such file, ShardError where it is no
    shard.
    """
    return open_rows(path, check=check).file


def open_rows(path: Path, *, check: bool = True) -> Rows:
    """A file of `open_files`, to be read sample by sample."""
    identity = file_identity(path)
    with _opening:
        kept, rows = _handles.pop(path, (None, None))
        if kept != identity or rows is None:
            # The former file goes first: HDF5 takes one that was overwritten in place for the one that it holds open.
            rows = None
            file = _opened(path, check, rdcc_nbytes=0)
            if _in_bricks(file):
                # Readers of patches come back to a brick, which has 256 KiB at most.
                file.close()
                file = _opened(path, False, rdcc_nbytes=CHUNK_CACHE)
            rows = Rows(file)
        _handles[path] = identity, rows
        if len(_handles) > OPEN_FILES:
            _handles.pop(next(iter(_handles)))
    return rows


def _in_bricks(file: Any) -> bool:
    image = file.get("image")
    return image is not None and image.chunks is not None and image.chunks[1:] != image.shape[1:]


def close_file(path: Path) -> None:
    """No longer keep a file open; it closes when nobody uses it any more."""
    with _opening:
        _handles.pop(path, None)


_handles: dict[Path, tuple[FileIdentity, Rows]] = {}
_opening = threading.RLock()


def _before_fork() -> None:
    # A child must find neither the parent's files open, since HDF5 would share them between both, nor the lock held by another thread.
    _opening.acquire()
    _handles.clear()


os.register_at_fork(before=_before_fork, after_in_parent=_opening.release, after_in_child=_opening.release)


def read_answer(file: Any, name: str, index: int) -> Label:
    """One sample's label or prediction from an open shard, touching only what it needs."""
    item = file[name]
    if isinstance(item, h5py.Dataset):
        return np.asarray(item[index])
    low, high = item["offsets"][index : index + 2]
    scores = np.asarray(item["scores"][low:high]) if "scores" in item else None
    return Boxes(np.asarray(item["boxes"][low:high]), np.asarray(item["classes"][low:high]), scores)
