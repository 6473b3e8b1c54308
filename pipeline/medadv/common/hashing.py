"""Content hashes: the one place that says how values, arrays and files become identifiers."""

import hashlib
import hmac
import json
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

BLOCK = 1 << 20


def canonical_json(value: Any) -> bytes:
    """UTF-8 JSON with sorted keys and no spaces; NaN and infinities are refused, since JSON has no word for them.

    File names that are no UTF-8, which Python holds as lone surrogates, are written as JSON's escapes of these and so survive.
    """
    text = json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False, allow_nan=False)
    return text.encode("utf-8", "backslashreplace")


def hash_bytes(data: bytes) -> str:
    """SHA-256 in hexadecimal."""
    return hashlib.sha256(data).hexdigest()


def hash_value(value: Any) -> str:
    """SHA-256 of a JSON-able value in canonical form."""
    return hash_bytes(canonical_json(value))


def hash_file(path: Path) -> str:
    """SHA-256 of a file's bytes, read in blocks."""
    digest = hashlib.sha256()
    with path.open("rb") as stream:
        while block := stream.read(BLOCK):
            digest.update(block)
    return digest.hexdigest()


FileIdentity = tuple[int, int, int, int]
"""Device, inode, size and time of the last change: what a file is, whatever lies at its path later."""


def file_identity(path: Path) -> FileIdentity:
    """The identity of the file at a path now. OSError where there is none."""
    found = path.stat()
    return found.st_dev, found.st_ino, found.st_size, found.st_mtime_ns


def hash_array(array: npt.NDArray[Any]) -> str:
    """SHA-256 over type, shape and little-endian C-order bytes, so that equal arrays have equal hashes on any machine."""
    little = np.ascontiguousarray(array, dtype=array.dtype.newbyteorder("<")) if array.dtype.kind not in "SUO" else array
    if little.dtype.kind in "SUO":
        return hash_value([str(v) for v in array.tolist()])
    header = canonical_json([little.dtype.str, list(array.shape)])
    digest = hashlib.sha256(header)
    digest.update(little.data if little.size else b"")
    return digest.hexdigest()


class ArrayHash:
    """`hash_array` of a numeric array that arrives in consecutive C-order pieces."""

    def __init__(self, dtype: np.dtype[Any], shape: tuple[int, ...]) -> None:
        self.dtype = dtype.newbyteorder("<")
        self.digest = hashlib.sha256(canonical_json([self.dtype.str, list(shape)]))

    def add(self, piece: npt.NDArray[Any]) -> None:
        """The next piece."""
        little = np.ascontiguousarray(piece, dtype=self.dtype)
        self.digest.update(little.data if little.size else b"")

    def result(self) -> str:
        """SHA-256 of what was added."""
        return self.digest.hexdigest()


def keyed_hash(key: bytes, text: str) -> str:
    """HMAC-SHA-256 of a patient, study or session id, 32 hexadecimal digits: without the key nobody can guess back."""
    return hmac.new(key, text.encode("utf-8", "backslashreplace"), hashlib.sha256).hexdigest()[:32]


def seed_of(*parts: str | int) -> int:
    """A 128-bit seed from the run seed, sample id, attack name and restart: never from a worker or a batch."""
    return int.from_bytes(hashlib.sha256(canonical_json(list(parts))).digest()[:16], "little")
