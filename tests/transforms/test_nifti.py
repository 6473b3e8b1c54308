"""NIfTI volumes: values and affine are nibabel's, and what is damaged or larger than it says is refused."""

import gzip
import tracemalloc
import zlib
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import pytest
from tests.transforms.ct_phantoms import write_nifti
from tests.transforms.nifti_files import AFFINE, code_of, volume_values

from medadv_transforms import InputError, inspect_ct, nifti, read_ct_slice, read_ct_volume


@pytest.mark.parametrize("suffix", [".nii", ".nii.gz"])
@pytest.mark.parametrize("dtype", ["i2", "i4", "u2", "f4", "f8", ">i2"])
def test_values_and_affine_are_nibabels(tmp_path: Path, suffix: str, dtype: str) -> None:
    values = (volume_values() + 1000).astype(dtype)
    path = write_nifti(tmp_path / f"a{suffix}", values, AFFINE)
    loaded = read_ct_volume([path], offset=0)
    np.testing.assert_array_equal(loaded.image[0], values)
    np.testing.assert_allclose(loaded.affine, AFFINE, atol=1e-6)
    assert (loaded.unit, loaded.spatial_axes, loaded.facts["orientation"]) == ("hu", "xyz", "LSP")
    assert inspect_ct([path]).shape == (6, 8, 5)
    one = read_ct_slice([path], 3, offset=0)
    np.testing.assert_array_equal(one.image, loaded.image[..., 3])
    np.testing.assert_allclose(one.affine[:, 3], AFFINE @ [0, 0, 3, 1], atol=1e-6)


def test_scaled_values(tmp_path: Path) -> None:
    image: Any = nib.Nifti1Image(volume_values(), AFFINE)
    image.header.set_slope_inter(0.5, 10.25)
    path = tmp_path / "a.nii"
    nib.save(image, path)
    expected = np.clip(np.rint(np.asarray(nib.load(path).dataobj)), -1024, 3071)  # type: ignore[attr-defined]
    np.testing.assert_array_equal(read_ct_volume([path]).image[0], expected)


def test_several_gzip_members_and_nifti2(tmp_path: Path) -> None:
    plain = write_nifti(tmp_path / "a.nii", volume_values(), AFFINE).read_bytes()
    path = tmp_path / "b.nii.gz"
    path.write_bytes(gzip.compress(plain[:400]) + gzip.compress(plain[400:]))
    np.testing.assert_array_equal(read_ct_volume([path]).image[0], volume_values())
    second: Any = nib.Nifti2Image(volume_values(), AFFINE)
    nib.save(second, tmp_path / "c.nii")
    np.testing.assert_array_equal(read_ct_volume([tmp_path / "c.nii"]).image[0], volume_values())


FAULTS: dict[str, tuple[str, dict[str, Any]]] = {
    "no geometry": ("missing-position", {"sform_code": 0, "qform_code": 0}),
    "two geometries": ("ambiguous-geometry", {"qoffset_x": 3.0}),
    "pixdim": ("ambiguous-geometry", {"qform_code": 0, "pixdim": [1, 5, 5, 5, 1, 1, 1, 1]}),
    "metres": ("unsupported-units", {"xyzt_units": 1}),
    "shear": ("gantry-tilt", {"qform_code": 0, "srow_x": [-0.8, 0, 0.6, 40]}),
    "singular": ("bad-geometry", {"qform_code": 0, "srow_x": [0, 0, 0, 40]}),
    "not finite": ("bad-geometry", {"qform_code": 0, "srow_x": [np.nan, 0, 0, 40]}),
    "slope": ("bad-rescale", {"scl_slope": np.inf, "scl_inter": 0}),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_headers_that_are_refused(tmp_path: Path, fault: str) -> None:
    code, changes = FAULTS[fault]
    path = write_nifti(tmp_path / "a.nii", volume_values(), AFFINE)
    data = bytearray(path.read_bytes())
    header = nib.Nifti1Header(bytes(data[:348]), check=False)
    for field, value in changes.items():
        header[field] = value
    data[:348] = header.binaryblock
    path.write_bytes(data)
    assert code_of(path) == code


def test_data_that_is_refused(tmp_path: Path) -> None:
    path = write_nifti(tmp_path / "a.nii.gz", volume_values(), AFFINE)
    whole, plain = path.read_bytes(), gzip.decompress(path.read_bytes())
    path.write_bytes(whole[:-9])
    assert code_of(path) == "decode-failed"
    path.write_bytes(whole[:60] + bytes([whole[60] ^ 4]) + whole[61:])
    assert code_of(path) == "decode-failed"
    for damaged in (plain[:-1], plain + b"\1\2"):
        path.write_bytes(gzip.compress(damaged))
        assert code_of(path) == "length-mismatch"
    write_nifti(path, np.zeros((4, 4, 4, 2), np.int16), AFFINE)
    assert code_of(path) == "not-3d"
    write_nifti(path, np.full((4, 4, 4), np.nan), AFFINE)
    assert code_of(path) == "not-finite"
    write_nifti(path, np.linspace(0, 1, 64).reshape(4, 4, 4), AFFINE)
    assert code_of(path) == "not-hu"
    write_nifti(path, np.zeros((4, 4, 4), np.complex64), AFFINE)
    assert code_of(path) == "unsupported-datatype"


def test_a_bomb_is_not_inflated(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("medadv_transforms.nifti.MAX_FILE_BYTES", 1 << 20)
    plain = bytearray(write_nifti(tmp_path / "a.nii", volume_values(), AFFINE).read_bytes())
    path = tmp_path / "b.nii.gz"
    path.write_bytes(zlib.compress(bytes(plain) + bytes(1 << 26), wbits=31))
    # What is longer than its header says is refused there, however long it is.
    assert code_of(path) == "length-mismatch"


def test_a_header_that_promises_a_huge_volume(tmp_path: Path) -> None:
    path = write_nifti(tmp_path / "a.nii", volume_values(), AFFINE)
    data = bytearray(path.read_bytes())
    header = nib.Nifti1Header(bytes(data[:348]), check=False)
    header["dim"] = [3, 32000, 32000, 32000, 1, 1, 1, 1]
    data[:348] = header.binaryblock
    path.write_bytes(data)
    assert code_of(path) == "too-large"
    with pytest.raises(InputError, match="too-large"):
        inspect_ct([path])


def test_a_bomb_is_measured_against_its_header(tmp_path: Path) -> None:
    """256 MiB of zeros behind a header of eight voxels are refused after these."""
    image = nib.Nifti1Image(np.zeros((2, 2, 2), np.int16), np.eye(4))
    image.header.set_xyzt_units("mm")
    path = tmp_path / "bomb.nii.gz"
    path.write_bytes(gzip.compress(image.to_bytes() + bytes(256 << 20), 1))
    tracemalloc.start()
    try:
        with pytest.raises(InputError) as caught:
            nifti.read_stored(path)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert caught.value.code == "length-mismatch"
    assert peak < 16 << 20


@pytest.mark.parametrize("field", ["vox_offset", "dim"])
def test_a_header_that_promises_more_than_any_file_is_refused(tmp_path: Path, field: str) -> None:
    image = nib.Nifti1Image(np.zeros((2, 2, 2), np.float64), np.eye(4))
    data = bytearray(image.to_bytes())
    header = nib.Nifti1Header(bytes(data[:348]), check=False)
    header[field] = 3e9 if field == "vox_offset" else [3, 1000, 1000, 1000, 1, 1, 1, 1]
    data[:348] = header.binaryblock
    path = tmp_path / "promise.nii.gz"
    path.write_bytes(gzip.compress(bytes(data)))
    with pytest.raises(InputError) as caught:
        nifti.read_stored(path)
    assert caught.value.code == "too-large"
