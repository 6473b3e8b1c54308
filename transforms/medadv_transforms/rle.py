"""DICOM run-length decoding that accepts nothing but exact segments (DICOM PS3.5, annex G)."""

import struct
from itertools import pairwise
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .errors import InputError

HEADER_BYTES = 64


def decode_rle(stream: bytes, rows: int, columns: int, dtype: np.dtype[Any]) -> NDArray[Any]:
    """One frame, (rows, columns) of `dtype`, which is little-endian.

    Segments hold the bytes of all pixels, most significant first. Raises InputError `decode-failed` unless each one decodes to
    exactly one byte per pixel, with no more than a byte of padding left.
    """
    if len(stream) < HEADER_BYTES:
        raise InputError("decode-failed", "the run-length header is truncated")
    count, *offsets = struct.unpack_from("<16L", stream)
    bounds = [*offsets[:count], len(stream)]
    if count != dtype.itemsize or bounds[0] != HEADER_BYTES or bounds != sorted(bounds):
        raise InputError("decode-failed", "the run-length segments do not match the header")
    planes = [np.frombuffer(_segment(stream[start:end], rows * columns), np.uint8) for start, end in pairwise(bounds)]
    return np.stack(planes[::-1], axis=-1).view(dtype).reshape(rows, columns)


def _segment(data: bytes, size: int) -> bytes:
    parts: list[bytes] = []
    position = total = 0
    while total < size:
        if position + 1 >= len(data):
            raise InputError("decode-failed", "a run-length segment is truncated")
        head = data[position]
        if head < 128:
            part = data[position + 1 : position + 2 + head]
            position += 2 + head
            if len(part) != head + 1:
                raise InputError("decode-failed", "a run-length segment is truncated")
        elif head > 128:
            part = data[position + 1 : position + 2] * (257 - head)
            position += 2
        else:
            # 128 is a byte of no meaning.
            position += 1
            continue
        parts.append(part)
        total += len(part)
    if total != size or len(data) - position > 1:
        raise InputError("decode-failed", "a run-length segment decodes to another size")
    return b"".join(parts)
