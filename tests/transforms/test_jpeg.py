"""JPEG in DICOM: lossless bit for bit, lossy as GDCM decodes it, damage refused, whatever else is installed."""

import hashlib
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pydicom
import pytest
import SimpleITK
from imagecodecs import jpeg8_encode
from pydicom.encaps import encapsulate
from pydicom.uid import JPEGExtended12Bit, JPEGLossless, JPEGLosslessSV1
from tests.transforms.ct_phantoms import ct_slice, write_series

from medadv_transforms import InputError, read_ct_volume
from medadv_transforms.jpeg import decode_jpeg

APART = 1
"""Stored units between two decoders of lossy JPEG: how each rounds its inverse cosine transform."""


def slice_values(top: int = 4000) -> np.ndarray:
    """(40, 56) uint16 from 0 to `top`: a smooth picture with noise and an edge."""
    y, x = np.mgrid[:40, :56]
    picture = 0.4 + 0.2 * np.sin(x / 9) + 0.2 * np.cos(y / 7) + np.random.default_rng(0).normal(0, 0.01, y.shape) - 0.2 * (x > 30)
    return (np.clip(picture, 0, 1) * top).astype(np.uint16)


def write_jpeg(folder: Path, stream: bytes, syntax: str, **changes: object) -> Path:
    """One slice whose pixel data is `stream`."""
    dataset = ct_slice(0, array=slice_values(), syntax=syntax, PixelData=encapsulate([stream]), **changes)
    dataset["PixelData"].is_undefined_length = True
    (path,) = write_series(folder, [dataset])
    return path


def hounsfield(path: Path) -> np.ndarray:
    """(rows, columns) HU of a single slice."""
    return read_ct_volume([path]).image[0, :, :, 0].T


@pytest.mark.parametrize("bits", [8, 10, 12, 13, 16])
@pytest.mark.parametrize("predictor", range(1, 8))
def test_lossless_is_what_was_encoded(bits: int, predictor: int) -> None:
    values = slice_values((1 << bits) - 1).astype(np.uint8 if bits == 8 else np.uint16)
    stream = jpeg8_encode(values, lossless=True, predictor=predictor, bitspersample=bits)
    np.testing.assert_array_equal(decode_jpeg(stream, values.dtype), values)


@pytest.mark.parametrize(("syntax", "predictor"), [(JPEGLosslessSV1, 1), (JPEGLossless, 6)])
def test_negative_values_come_back(syntax: str, predictor: int, tmp_path: Path) -> None:
    values = slice_values().astype(np.int16) - 2000
    stream = jpeg8_encode(values.view(np.uint16), lossless=True, predictor=predictor, bitspersample=16)
    path = write_jpeg(tmp_path, stream, syntax, BitsStored=16, HighBit=15, PixelRepresentation=1, RescaleIntercept="0")
    np.testing.assert_array_equal(hounsfield(path), np.maximum(values, -1024))


@pytest.mark.parametrize("quality", [40, 75, 95])
def test_twelve_bits_lossy_is_what_gdcm_decodes(quality: int, tmp_path: Path) -> None:
    path = write_jpeg(tmp_path, jpeg8_encode(slice_values(), level=quality, bitspersample=12), JPEGExtended12Bit)
    reference = SimpleITK.GetArrayFromImage(SimpleITK.ReadImage(str(path)))[0]
    assert np.abs(hounsfield(path) - reference).max() <= APART
    assert quality > 75 or np.abs(reference + 1024 - slice_values().astype(int)).max() > 10 * APART, "hardly compressed: shows nothing"


def test_a_flat_picture_is_its_grey_level_whatever_the_quality() -> None:
    # Only the mean of each block is coded, in steps of quantum / 8 around the middle; a step of 16 grey levels is a whole number of all.
    for quality in (50, 90):
        flat = np.full((16, 24), 2048 + 16 * 8, np.uint16)
        np.testing.assert_array_equal(decode_jpeg(jpeg8_encode(flat, level=quality, bitspersample=12), flat.dtype), flat)


def test_pydicoms_own_file_reads_as_gdcm_reads_it() -> None:
    path = Path(pydicom.__file__).parent / "data" / "test_files" / "JPGExtended.dcm"
    if not path.is_file():
        pytest.skip("this pydicom came without its test files")
    dataset = pydicom.dcmread(path)
    stream = pydicom.encaps.get_frame(dataset.PixelData, 0, number_of_frames=1)
    reference = SimpleITK.GetArrayFromImage(SimpleITK.ReadImage(str(path))).reshape(dataset.Rows, dataset.Columns)
    assert np.abs(decode_jpeg(stream, np.dtype("<u2")).astype(int) - reference).max() <= APART


@pytest.mark.parametrize("lossless", [True, False])
@pytest.mark.parametrize("kept", [0.5, 0.9, 0.99])
def test_a_picture_that_breaks_off_is_refused(lossless: bool, kept: float, tmp_path: Path) -> None:
    stream = jpeg8_encode(slice_values(), lossless=lossless, bitspersample=12)
    assert hounsfield(write_jpeg(tmp_path / "whole", stream + b"\0\xff", JPEGExtended12Bit)).shape == (40, 56)
    path = write_jpeg(tmp_path / "cut", stream[: int(kept * len(stream))], JPEGExtended12Bit)
    with pytest.raises(InputError, match="decode-failed"):
        read_ct_volume([path])


def test_eight_bits_where_the_header_says_sixteen_are_refused(tmp_path: Path) -> None:
    path = write_jpeg(tmp_path, jpeg8_encode((slice_values() >> 4).astype(np.uint8)), JPEGExtended12Bit)
    with pytest.raises(InputError, match="decode-failed"):
        read_ct_volume([path])


def write_wrong_plugin(folder: Path) -> None:
    """Something that passes for pylibjpeg-libjpeg (GPL) and decodes every picture to zeros."""
    package, facts = folder / "libjpeg", folder / "pylibjpeg_libjpeg-9.0.0.dist-info"
    package.mkdir(parents=True)
    facts.mkdir()
    zeros = f"def decode(src, **options):\n    return bytearray({slice_values().nbytes})\n"
    (package / "__init__.py").write_text("__version__ = '9.0.0'\n" + zeros)
    (facts / "METADATA").write_text("Metadata-Version: 2.1\nName: pylibjpeg-libjpeg\nVersion: 9.0.0\n")
    syntaxes = (JPEGExtended12Bit, JPEGLossless, JPEGLosslessSV1)
    points = [f"{uid} = libjpeg:decode" for uid in syntaxes]
    (facts / "entry_points.txt").write_text("\n".join(["[pylibjpeg.pixel_data_decoders]", *points]) + "\n")


def test_a_plugin_that_is_installed_has_no_say(tmp_path: Path) -> None:
    paths = []
    for syntax in (JPEGExtended12Bit, JPEGLossless, JPEGLosslessSV1):
        stream = jpeg8_encode(slice_values(), level=60, lossless=syntax != JPEGExtended12Bit, bitspersample=12)
        paths.append(write_jpeg(tmp_path / syntax, stream, syntax))
    here = [hashlib.sha256(read_ct_volume([path]).image.tobytes()).hexdigest() for path in paths]
    write_wrong_plugin(tmp_path / "site")
    code = (
        "import hashlib, sys, pydicom\n"
        "from medadv_transforms import read_ct_volume\n"
        "for path in sys.argv[1:]:\n"
        "    assert not pydicom.dcmread(path).pixel_array.any(), 'pydicom takes the plugin'\n"
        "    print(hashlib.sha256(read_ct_volume([path]).image.tobytes()).hexdigest())\n"
    )
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([str(tmp_path / "site"), *filter(None, sys.path)])}
    done = subprocess.run([sys.executable, "-c", code, *map(str, paths)], capture_output=True, text=True, env=environment, check=False)
    assert (done.stdout.split(), done.returncode) == (here, 0), done.stderr


def test_lossy_values_are_near_those_of_the_decoder_before() -> None:
    libjpeg = pytest.importorskip("libjpeg", reason="pylibjpeg-libjpeg (GPL) is not installed; it was the decoder until meaning version 5")
    for bits, quality in ((8, 60), (12, 60), (12, 95)):
        values = slice_values((1 << bits) - 1).astype(np.uint8 if bits == 8 else np.uint16)
        stream = jpeg8_encode(values, level=quality, bitspersample=bits)
        before = np.frombuffer(libjpeg.utils.decode_pixel_data(stream, version=2), values.dtype).reshape(values.shape)
        assert np.abs(decode_jpeg(stream, values.dtype).astype(int) - before).max() <= APART
