"""Ways to damage the files that a corpus publishes, and what of a shard lies where."""

from collections.abc import Callable, Mapping
from pathlib import Path

import h5py
from numpy.random import Generator

LENGTHS = (1, 8, 64, 512, 4096)
"""Bytes of what is zeroed, exchanged or put in; 512 zeros at some places make HDF5 spin."""
Owner = tuple[int, int, str | None, str]
Contents = Mapping[Path, bytes]


def published(corpus: Path) -> list[Path]:
    files = (path for path in corpus.rglob("*") if path.is_file() and ".medadv" not in path.parts)
    return sorted(path for path in files if path.name != "report.html" and path.stat().st_size)


def chunk_owners(path: Path) -> list[Owner]:
    """(first byte, last byte + 1, sample, array) of every stored chunk, by h5py."""
    owners = []
    with h5py.File(path) as file:
        ids = [value.decode() for value in file["sample_id"][...]]
        names: list[str] = []
        file.visititems(lambda name, item: names.append(name) if isinstance(item, h5py.Dataset) else None)
        for name in names:
            dataset = file[name]
            for number in range(dataset.id.get_num_chunks()):
                chunk = dataset.id.get_chunk_info(number)
                sample = ids[chunk.chunk_offset[0]] if dataset.chunks[0] == 1 else None
                owners.append((chunk.byte_offset, chunk.byte_offset + chunk.size, sample, name))
    return owners


def flip(files: Contents, rng: Generator) -> dict[Path, bytes]:
    """One bit."""
    path, place = _somewhere(files, rng)
    data = bytearray(files[path])
    data[place] ^= 1 << int(rng.integers(8))
    return {path: bytes(data)}


def zeros(files: Contents, rng: Generator) -> dict[Path, bytes]:
    """A range of a file becomes zeros, as a disk gives back what it lost."""
    path, place = _somewhere(files, rng)
    length = len(files[path][place : place + int(rng.choice(LENGTHS))])
    return {path: _with(files[path], place, bytes(length))}


def truncate(files: Contents, rng: Generator) -> dict[Path, bytes]:
    """The end of a file is gone."""
    path, place = _somewhere(files, rng)
    return {path: files[path][:place]}


def swap(files: Contents, rng: Generator) -> dict[Path, bytes]:
    """Two ranges change places, in one file or in two; or two whole files do."""
    (first, place), (second, other) = _somewhere(files, rng), _somewhere(files, rng)
    what = rng.random()
    if what < 0.1:
        return {first: files[second], second: files[first]}
    if what < 0.5:
        second, other = first, int(rng.integers(len(files[first])))
    length = min(int(rng.choice(LENGTHS)), len(files[first]) - place, len(files[second]) - other)
    one, two = files[first][place : place + length], files[second][other : other + length]
    if first != second:
        return {first: _with(files[first], place, two), second: _with(files[second], other, one)}
    return {first: _with(_with(files[first], place, two), other, one)}


def splice(files: Contents, rng: Generator) -> dict[Path, bytes]:
    """A piece of another file, over what was there or between it."""
    (path, place), (source, start) = _somewhere(files, rng), _somewhere(files, rng)
    piece = files[source][start : start + int(rng.choice(LENGTHS))]
    if rng.random() < 0.5:
        return {path: files[path][:place] + piece + files[path][place:]}
    return {path: _with(files[path], place, piece[: len(files[path]) - place])}


KINDS: dict[str, Callable[[Contents, Generator], dict[Path, bytes]]] = {
    "flip": flip,
    "zeros": zeros,
    "truncate": truncate,
    "swap": swap,
    "splice": splice,
}


def changed(kind: str, files: Contents, rng: Generator) -> dict[Path, bytes]:
    """The new content of the files that a damage of a kind changes; one that changes no byte (zeros over zeros) is drawn again."""
    while True:
        made = {path: data for path, data in KINDS[kind](files, rng).items() if data != files[path]}
        if made:
            return made


def _somewhere(files: Contents, rng: Generator) -> tuple[Path, int]:
    path = list(files)[int(rng.integers(len(files)))]
    return path, int(rng.integers(len(files[path])))


def _with(data: bytes, place: int, piece: bytes) -> bytes:
    return data[:place] + piece + data[place + len(piece) :]
