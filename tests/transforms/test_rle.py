"""Run-length decoding: exact, or refused."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from pydicom.pixels.encoders.native import _encode_segment

from medadv_transforms import InputError
from medadv_transforms.rle import decode_rle


def encoded(values: np.ndarray) -> bytes:
    """A frame as pydicom encodes it."""
    columns = values.shape[1]
    segments = [bytes(_encode_segment(plane.tobytes(), columns)) for plane in np.moveaxis(values[..., None].view(np.uint8), -1, 0)[::-1]]
    offsets = np.cumsum([64, *map(len, segments)])[:-1]
    header = np.zeros(16, "<u4")
    header[0] = len(segments)
    header[1 : 1 + len(segments)] = offsets
    return header.tobytes() + b"".join(segments)


@given(arrays(st.sampled_from(["<i2", "<u2", "u1"]), (5, 7), elements=st.integers(0, 3) | st.integers(0, 127)))
def test_what_pydicom_encodes(values: np.ndarray) -> None:
    np.testing.assert_array_equal(decode_rle(encoded(values), 5, 7, values.dtype), values)


@pytest.mark.parametrize("rows", [1, 4, 6])
def test_another_size_is_refused(rows: int) -> None:
    stream = encoded(np.arange(35, dtype="<u2").reshape(5, 7))
    with pytest.raises(InputError, match="decode-failed"):
        decode_rle(stream, rows, 7, np.dtype("<u2"))


@given(st.binary(max_size=300), st.integers(0, 3))
def test_noise_is_refused_or_has_the_right_size(noise: bytes, count: int) -> None:
    header = np.zeros(16, "<u4")
    header[:3] = count, 64, 80
    for stream in (noise, header.tobytes() + noise):
        try:
            assert decode_rle(stream, 5, 7, np.dtype("<u2")).shape == (5, 7)
        except InputError:
            continue
