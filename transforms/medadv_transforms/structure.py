"""Whether a DICOM file ends where it says it does: bytes that were lost or slipped in shift the pixels without any other sign."""

import struct
import zlib
from pathlib import Path

from pydicom.dataelem import RawDataElement
from pydicom.dataset import Dataset
from pydicom.tag import Tag

from .errors import InputError
from .held import opened_part, size_of
from .limits import MAX_FILE_BYTES

DEFLATED = "1.2.840.10008.1.2.1.99"

PIXEL_DATA = Tag(0x7FE00010)

TRAILERS = {Tag(0xFFFAFFFA), Tag(0xFFFCFFFC)}
"""Digital signatures and trailing padding are all that may follow the pixel data."""

ITEM, DELIMITER = b"\xfe\xff\x00\xe0", b"\xfe\xff\xdd\xe0"

UNDEFINED_LENGTH = 0xFFFFFFFF


def check_structure(dataset: Dataset, path: Path) -> None:
    """Compare the layout of a parsed object, untouched since, with its file.  Raises InputError `decode-failed` or `too-large`."""
    syntax = str(dataset.file_meta.get("TransferSyntaxUID") or "")
    size = _inflated_size(path) if syntax == DEFLATED else size_of(path)
    tags = list(dataset.keys())
    if tags != sorted(tags) or PIXEL_DATA not in tags or not set(tags[tags.index(PIXEL_DATA) + 1 :]) <= TRAILERS:
        raise InputError("decode-failed", "the elements of the DICOM file are out of order")
    pixels = dataset.get_item(PIXEL_DATA)
    if not isinstance(pixels, RawDataElement) or not isinstance(pixels.value, bytes):
        raise InputError("decode-failed", "the pixel data does not parse")
    end = pixels.value_tell + pixels.length
    if pixels.length == UNDEFINED_LENGTH:
        check_items(pixels.value)
        # The sequence delimiter is not part of the value.
        end = pixels.value_tell + len(pixels.value) + 8
    if tags[-1] == PIXEL_DATA and end != size:
        raise InputError("decode-failed", "the file does not end where its last element does")


def check_items(value: bytes) -> None:
    """Encapsulated pixel data is a chain of items that fills it exactly."""
    position = 0
    while position < len(value):
        if value[position : position + 4] == DELIMITER and position + 8 == len(value):
            return
        if value[position : position + 4] != ITEM or position + 8 > len(value):
            raise InputError("decode-failed", "the fragments of the pixel data are damaged")
        position += 8 + int(struct.unpack_from("<L", value, position + 4)[0])
    if position != len(value):
        raise InputError("decode-failed", "the fragments of the pixel data are damaged")


def check_start(path: Path) -> bool:
    """Whether a file begins with a DICOM element right away, without the 128 bytes and the mark that others begin with.

    Raises InputError for a deflated object that is damaged or would inflate beyond the limit for files, before anything holds it in memory,
    and for one without that mark.
    """
    with opened_part(path) as file:
        head = file.read(400)
    deflated = DEFLATED.encode() in head
    if head[128:132] == b"DICM":
        if deflated:
            _inflated_size(path)
        return False
    if not _begins_with_element(head):
        return False
    if deflated:
        raise InputError("unsupported-transfer-syntax")
    return True


def _begins_with_element(head: bytes) -> bool:
    """Group 2 or 8, an element of the first few, and a plausible length."""
    if len(head) < 16:
        return False
    group, element, kind = struct.unpack_from("<HH2s", head)
    if group not in (2, 8) or element > 0x0020:
        return False
    return kind in (b"UL", b"UI", b"CS", b"DA", b"OB") or struct.unpack_from("<L", head, 4)[0] <= 128


def _inflated_size(path: Path) -> int:
    with opened_part(path) as file:
        data = file.read()
    # The deflated part follows the 128-byte preamble, "DICM" and the meta group, whose length is its first element's value.
    start = 144 + int(struct.unpack_from("<L", data, 140)[0]) if len(data) > 144 else len(data)
    inflate = zlib.decompressobj(-zlib.MAX_WBITS)
    total, rest = 0, data[start:]
    while not inflate.eof:
        try:
            part = inflate.decompress(rest, 1 << 24)
        except zlib.error:
            raise InputError("decode-failed", "the deflated data is damaged") from None
        total += len(part)
        rest = inflate.unconsumed_tail
        if total > MAX_FILE_BYTES:
            raise InputError("too-large", "the deflated data inflates beyond the limit")
        if not part and not rest and not inflate.eof:
            raise InputError("decode-failed", "the deflated data is truncated")
    if inflate.unused_data.strip(b"\0"):
        raise InputError("decode-failed", "bytes follow the deflated data")
    return total
