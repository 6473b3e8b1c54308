"""Decode the pixel data of a DICOM CT object, frame by frame, after checking that the header and the data agree."""

import struct
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from pydicom.dataset import Dataset
from pydicom.encaps import get_frame
from pydicom.pixels import get_decoder

from .errors import InputError
from .jpeg import decode_jpeg
from .quiet import quiet
from .rle import decode_rle
from .structure import check_structure

NATIVE = {
    "1.2.840.10008.1.2": "<",
    "1.2.840.10008.1.2.1": "<",
    "1.2.840.10008.1.2.1.99": "<",
    "1.2.840.10008.1.2.2": ">",
}
"""Uncompressed transfer syntaxes and their byte order."""

NATIVE_BY_ENCODING = {(True, True): "1.2.840.10008.1.2", (False, True): "1.2.840.10008.1.2.1", (False, False): "1.2.840.10008.1.2.2"}
"""(implicit VR, little endian) -> transfer syntax."""

RLE = {"1.2.840.10008.1.2.5"}
JPEG = {"1.2.840.10008.1.2.4.51", "1.2.840.10008.1.2.4.57", "1.2.840.10008.1.2.4.70"}
JPEG_LS = {"1.2.840.10008.1.2.4.80", "1.2.840.10008.1.2.4.81"}
JPEG_2000 = {"1.2.840.10008.1.2.4.90", "1.2.840.10008.1.2.4.91"}
SUPPORTED = {*NATIVE, *RLE, *JPEG, *JPEG_LS, *JPEG_2000}


class PixelSource:
    """The pixel data of one open object: `frame(i)` decodes one frame."""

    def __init__(self, dataset: Dataset, path: Path) -> None:
        with quiet():
            try:
                check_structure(dataset, path)
                self._describe(dataset)
            except InputError:
                raise
            except Exception:
                raise InputError("decode-failed", "the pixel description does not parse") from None

    def _describe(self, dataset: Dataset) -> None:
        meta = getattr(dataset, "file_meta", None)
        self.syntax = str(meta.get("TransferSyntaxUID") or "") if meta is not None else ""
        if not self.syntax:
            # Without a meta group the encoding is the one that the elements were parsed by.
            self.syntax = NATIVE_BY_ENCODING.get(dataset.original_encoding, "")
        if self.syntax not in SUPPORTED:
            raise InputError("unsupported-transfer-syntax")
        # Named, so that no other plugin that is installed has a say; CharLS (pyjpegls) notices damage that others decode to noise.
        self.plugin = "pyjpegls" if self.syntax in JPEG_LS else "pylibjpeg"
        self.dataset = dataset
        self.rows, self.columns = int(dataset.Rows), int(dataset.Columns)
        self.count = int(dataset.get("NumberOfFrames") or 1)
        self.allocated, self.stored = int(dataset.get("BitsAllocated") or 0), int(dataset.get("BitsStored") or 0)
        self.signed = int(dataset.get("PixelRepresentation") or 0) == 1
        high_bit = int(dataset.get("HighBit", self.stored - 1))
        if self.allocated not in (8, 16, 32) or not 1 <= self.stored <= self.allocated or high_bit != self.stored - 1:
            raise InputError("unsupported-datatype")
        self.data: bytes = dataset.PixelData
        self.dtype = np.dtype(f"{NATIVE.get(self.syntax, '<')}{'i' if self.signed else 'u'}{self.allocated // 8}")
        if self.syntax in NATIVE:
            expected = self.rows * self.columns * self.count * self.dtype.itemsize
            # A value is padded to an even length, by one byte at most.
            if not expected <= len(self.data) <= expected + 1:
                raise InputError("length-mismatch")

    def frame(self, index: int) -> NDArray[Any]:
        """Stored values of one frame, (rows, columns) integers.  Raises InputError."""
        values = self._native(index) if self.syntax in NATIVE else self._compressed(index)
        if self.stored < self.allocated and values.size:
            low, high = (-(1 << (self.stored - 1)), (1 << (self.stored - 1)) - 1) if self.signed else (0, (1 << self.stored) - 1)
            if values.min() < low or values.max() > high:
                raise InputError("bits-out-of-range")
        return values

    def _native(self, index: int) -> NDArray[Any]:
        count = self.rows * self.columns
        values = np.frombuffer(self.data, self.dtype, count, index * count * self.dtype.itemsize)
        return values.reshape(self.rows, self.columns)

    def _compressed(self, index: int) -> NDArray[Any]:
        with quiet():
            try:
                stream = get_frame(self.data, index, number_of_frames=self.count)
            except Exception:
                raise InputError("decode-failed", "the compressed frames are damaged") from None
            if self.syntax in RLE:
                return decode_rle(stream, self.rows, self.columns, self.dtype)
            self._check_stream(stream)
            try:
                if self.syntax in JPEG:
                    values = decode_jpeg(stream, self.dtype)
                else:
                    values, _ = get_decoder(self.syntax).as_array(self.dataset, index=index, raw=True, decoding_plugin=self.plugin)
            except InputError:
                raise
            except Exception:
                raise InputError("decode-failed", "the compressed pixel data does not decode") from None
        if values.shape != (self.rows, self.columns) or values.dtype.kind not in "iu":
            raise InputError("length-mismatch", "the compressed picture has another size than the header states")
        return values

    def _check_stream(self, stream: bytes) -> None:
        """Compare the code stream's own size with the header before any memory is set aside for it."""
        size = _jpeg2000_size(stream) if self.syntax in JPEG_2000 else _jpeg_size(stream)
        if size is None:
            raise InputError("decode-failed", "the compressed picture has no valid header")
        if size != (self.rows, self.columns, 1):
            raise InputError("length-mismatch", "the compressed picture has another size than the header states")


def _jpeg_size(stream: bytes) -> tuple[int, int, int] | None:
    """(rows, columns, components) of a JPEG or JPEG-LS stream's frame header."""
    position = 2
    while position + 10 <= len(stream) and stream[:2] == b"\xff\xd8" and stream[position] == 0xFF:
        marker = stream[position + 1]
        if (0xC0 <= marker <= 0xCF and marker not in (0xC4, 0xC8, 0xCC)) or marker == 0xF7:
            rows, columns, components = struct.unpack_from(">HHB", stream, position + 5)
            return rows, columns, components
        position += 1 if marker == 0xFF else 2 + struct.unpack_from(">H", stream, position + 2)[0]
    return None


def _jpeg2000_size(stream: bytes) -> tuple[int, int, int] | None:
    """(rows, columns, components) of a JPEG 2000 code stream's SIZ segment."""
    start = stream.find(b"\xff\x4f\xff\x51", 0, 4096)
    if start < 0 or len(stream) < start + 42:
        return None
    right, bottom, left, top = struct.unpack_from(">LLLL", stream, start + 8)
    return bottom - top, right - left, struct.unpack_from(">H", stream, start + 40)[0]
