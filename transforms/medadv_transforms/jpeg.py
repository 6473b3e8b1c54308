"""JPEG code streams of DICOM, lossy and lossless, 8 to 16 bits, by libjpeg-turbo."""

from typing import Any

import numpy as np
from imagecodecs import jpeg8_decode
from numpy.typing import NDArray

from .errors import InputError

START_OF_SCAN, END_OF_IMAGE = b"\xff\xda", b"\xff\xd9"


def decode_jpeg(stream: bytes, dtype: np.dtype[Any]) -> NDArray[Any]:
    """Stored values of one picture, (rows, columns) where it has one component.

    The decoder is named here and not looked for among pydicom's plugins, so that what else is installed changes no value.
    dtype: of BitsAllocated and PixelRepresentation; negative values stand in the stream as their two's complement.
    Raises InputError where the stream breaks off or its samples have another width, and what libjpeg-turbo raises.
    """
    # libjpeg-turbo fills what is missing with grey. Neither marker can stand in coded data, where 0xff is followed by 0 or a restart.
    if stream.rfind(END_OF_IMAGE) <= stream.rfind(START_OF_SCAN):
        raise InputError("decode-failed", "the compressed picture breaks off")
    values: NDArray[Any] = jpeg8_decode(stream)
    if values.dtype.itemsize != dtype.itemsize:
        raise InputError("decode-failed", "the compressed picture has samples of another width than the header states")
    return values.view(dtype)
