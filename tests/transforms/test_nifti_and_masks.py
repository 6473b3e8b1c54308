"""NIfTI volumes, masks on any grid, DICOM segmentations, resampling and the way back."""

import gzip
import tracemalloc
import zlib
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import pytest
import SimpleITK as sitk
from tests.transforms.ct_phantoms import COLUMNS, ROWS, ct_slice, segmentation, write_nifti, write_series

from medadv_transforms import InputError, LoadedImage, inspect_ct, nifti, read_ct_slice, read_ct_volume, read_mask, restore_grid

AFFINE = np.array([[-0.8, 0, 0, 40], [0, 0, -2.5, 30], [0, 1.1, 0, -20], [0, 0, 0, 1.0]])


def volume_values() -> np.ndarray:
    """(6, 8, 5) int16, different at every voxel."""
    return (np.arange(240).reshape(6, 8, 5) * 7 - 900).astype(np.int16)


def code_of(path: Path) -> str:
    with pytest.raises(InputError) as caught:
        read_ct_volume([path])
    return caught.value.code


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


def image_on(tmp_path: Path, **options: Any) -> LoadedImage:
    return read_ct_volume([write_nifti(tmp_path / "image.nii", volume_values(), AFFINE)], **options)


@pytest.mark.parametrize("axes", [(0, 1, 2), (2, 0, 1), (1, 0, 2)])
@pytest.mark.parametrize("flips", [(1, 1, 1), (-1, 1, -1), (-1, -1, -1)])
def test_a_mask_with_other_axes_lands_exactly(tmp_path: Path, axes: tuple[int, ...], flips: tuple[int, ...]) -> None:
    labels = (volume_values() % 5 + 5).astype(np.uint8) % 5
    orientation = np.array(list(zip(axes, flips, strict=True)), float)
    turned = nib.orientations.apply_orientation(labels, orientation)
    affine = AFFINE @ nib.orientations.inv_ornt_aff(orientation, labels.shape)
    mask, warnings = read_mask([write_nifti(tmp_path / "m.nii", turned, affine)], image_on(tmp_path))
    np.testing.assert_array_equal(mask, labels)
    assert warnings == []
    one = read_ct_slice([tmp_path / "image.nii"], 2)
    plane, warnings = read_mask([tmp_path / "m.nii"], one)
    np.testing.assert_array_equal(plane, labels[..., 2])
    assert warnings == []


def test_a_mask_on_another_grid_is_what_simpleitk_makes_of_it(tmp_path: Path) -> None:
    angle = np.deg2rad(10)
    turn = np.eye(4)
    turn[:2, :2] = [[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]]
    rng = np.random.default_rng(0)
    for affine in (AFFINE @ np.diag([0.49, 0.53, 0.51, 1]), turn @ AFFINE @ np.diag([0.7, 0.7, 0.7, 1])):
        labels = rng.integers(1, 9, (13, 16, 11)).astype(np.uint8)
        path = write_nifti(tmp_path / "m.nii", labels, affine)
        image = image_on(tmp_path)
        mask, warnings = read_mask([path], image)
        grid = sitk.ReadImage(tmp_path / "image.nii")
        expected = sitk.GetArrayFromImage(sitk.Resample(sitk.ReadImage(path), grid, sitk.Transform(), sitk.sitkNearestNeighbor, 0)).T
        assert "mask resampled from another grid" in warnings
        # Points that lie half-way between two voxels may fall to either.
        assert (mask > 0).mean() > 0.15
        assert (mask == expected).mean() > 0.97


def test_a_mask_elsewhere_or_of_parts(tmp_path: Path) -> None:
    labels = np.ones((6, 8, 5), np.uint8)
    away = AFFINE.copy()
    away[0, 3] += 500
    for shape, code in ((labels[..., :4], "label-no-overlap"), (labels, "label-geometry")):
        with pytest.raises(InputError, match=code):
            read_mask([write_nifti(tmp_path / "m.nii", shape, away)], image_on(tmp_path))
    mask, warnings = read_mask([write_nifti(tmp_path / "m.nii", labels[:, :, :2], AFFINE)], image_on(tmp_path))
    assert mask[..., :2].all()
    assert not mask[..., 2:].any()
    assert warnings == ["mask covers a part of the image"]


def test_label_maps(tmp_path: Path) -> None:
    labels = (volume_values() % 6).astype(np.float64)
    path, image = write_nifti(tmp_path / "m.nii", labels, AFFINE), image_on(tmp_path)
    merged, _ = read_mask([path], image, {"lung": [1, 2], "liver": [5]})
    np.testing.assert_array_equal(merged, np.select([np.isin(labels, [1, 2]), labels == 5], [1, 2]))
    planes, _ = read_mask([path], image, {"all": [1, 2, 3], "part": [2]}, multilabel=True)
    np.testing.assert_array_equal(planes, [np.isin(labels, [1, 2, 3]), labels == 2])
    with pytest.raises(InputError, match="label-overlap"):
        read_mask([path], image, {"all": [1, 2, 3], "part": [2]})
    for empty in ({}, None):
        with pytest.raises(InputError, match="label-map"):
            read_mask([path], image, empty, multilabel=True)
    for bad in (labels + 0.5, labels - 3, labels * 100):
        with pytest.raises(InputError, match="label-values"):
            read_mask([write_nifti(tmp_path / "bad.nii", bad, AFFINE)], image)


def test_dicom_segmentation(tmp_path: Path) -> None:
    files = write_series(tmp_path / "ct", [ct_slice(z) for z in range(4)])
    image = read_ct_volume(files)
    rng = np.random.default_rng(1)
    first, second = rng.random((2, ROWS, COLUMNS)) < 0.3
    apart = second & ~first
    (path,) = write_series(tmp_path / "seg", [segmentation([(1, 1, first), (2, 1, apart), (1, 3, second)])])
    mask, warnings = read_mask([path], image)
    expected = np.zeros((COLUMNS, ROWS, 4), np.uint8)
    expected[..., 1] = first.T + 2 * apart.T
    expected[..., 3] = second.T
    np.testing.assert_array_equal(mask, expected)
    assert warnings == ["mask covers a part of the image"]
    np.testing.assert_array_equal(read_mask([path], read_ct_slice(files, 1))[0], expected[..., 1])
    np.testing.assert_array_equal(read_mask([path], image, {"b": [2]})[0], expected == 2)
    overlapping = write_series(tmp_path / "over", [segmentation([(1, 0, first), (2, 0, first)])])
    with pytest.raises(InputError, match="label-overlap"):
        read_mask(overlapping, image)
    both, _ = read_mask(overlapping, image, {"a": [1], "b": [2]}, multilabel=True)
    np.testing.assert_array_equal(both[:, :, :, 0], [first.T, first.T])


def test_segmentations_that_are_refused(tmp_path: Path) -> None:
    image = read_ct_volume(write_series(tmp_path / "ct", [ct_slice(0)]))
    fractional = segmentation([(1, 0, np.ones((ROWS, COLUMNS), bool))])
    fractional.SegmentationType = "FRACTIONAL"
    short = segmentation([(1, 0, np.ones((ROWS, COLUMNS), bool))])
    short.NumberOfFrames = 2
    for number, (dataset, code) in enumerate([(fractional, "unsupported-segmentation"), (short, "length-mismatch")]):
        with pytest.raises(InputError, match=code):
            read_mask(write_series(tmp_path / str(number), [dataset]), image)
    with pytest.raises(InputError, match="unsupported-format"):
        read_mask([tmp_path / "ct" / "0.dcm"], image)


@pytest.mark.parametrize("orientation", ["RAS", "LPS", "SAR", "PIL"])
def test_reorienting_is_exact_and_comes_back(tmp_path: Path, orientation: str) -> None:
    plain, turned = image_on(tmp_path), image_on(tmp_path, orientation=orientation)
    assert turned.facts["orientation"] == orientation
    reference: Any = nib.load(tmp_path / "image.nii")
    nibabels = nib.orientations.ornt_transform(nib.io_orientation(reference.affine), nib.orientations.axcodes2ornt(orientation))
    expected = reference.as_reoriented(nibabels)
    np.testing.assert_array_equal(turned.image[0], np.asarray(expected.dataobj))
    np.testing.assert_allclose(turned.affine, expected.affine, atol=1e-5)
    np.testing.assert_array_equal(restore_grid(turned.image, turned.facts["resampling"]), plain.image)


def test_resampling_is_what_simpleitk_makes_of_it(tmp_path: Path) -> None:
    spacing = (1.3, 0.7, 2.0)
    loaded = image_on(tmp_path, spacing=spacing)
    np.testing.assert_allclose(np.linalg.norm(loaded.affine[:3, :3], axis=0), spacing)
    source = sitk.ReadImage(tmp_path / "image.nii", sitk.sitkFloat64)
    grid = sitk.ReadImage(write_nifti(tmp_path / "grid.nii", np.zeros(loaded.image.shape[1:], np.int16), loaded.affine))
    reference = sitk.GetArrayFromImage(sitk.Resample(source, grid, sitk.Transform(), sitk.sitkLinear, -5000.0)).T
    inside = reference > -5000
    assert inside.mean() > 0.4
    assert np.abs(loaded.image[0][inside] - reference[inside]).max() <= 0.51
    # The field is the same one: outer faces coincide to half a new voxel.
    np.testing.assert_allclose(np.array(loaded.image.shape[1:]) * spacing, np.array([6, 8, 5]) * [0.8, 1.1, 2.5], atol=1.0)


def test_an_axis_without_a_spacing_keeps_its_own(tmp_path: Path) -> None:
    plain, loaded = image_on(tmp_path), image_on(tmp_path, spacing=(1.3, 0.7, None))
    whole = image_on(tmp_path, spacing=(1.3, 0.7, 2.5))
    assert loaded.image.shape[3] == plain.image.shape[3]
    np.testing.assert_array_equal(loaded.image, whole.image)
    np.testing.assert_array_equal(loaded.affine[:3, 2], plain.affine[:3, 2])


def test_a_linear_ramp_survives_resampling_and_the_way_back(tmp_path: Path) -> None:
    x, y, z = np.meshgrid(np.arange(12), np.arange(10), np.arange(8), indexing="ij")
    ramp = (20 * x - 15 * y + 30 * z).astype(np.int16)
    path = write_nifti(tmp_path / "a.nii", ramp, np.diag([2.0, 2.0, 2.0, 1]))
    loaded = read_ct_volume([path], spacing=(1.0, 1.0, 1.0), orientation="LPS")
    assert loaded.image.shape[1:] == (24, 20, 16)
    back = restore_grid(loaded.image, loaded.facts["resampling"])
    assert back.shape == (1, 12, 10, 8)
    assert np.abs(back[0] - ramp)[1:-1, 1:-1, 1:-1].max() <= 1
    labels, warnings = read_mask([write_nifti(tmp_path / "m.nii", (x > 5).astype(np.uint8), np.diag([2.0, 2.0, 2.0, 1]))], loaded)
    assert warnings == []
    np.testing.assert_array_equal(restore_grid(labels, loaded.facts["resampling"], nearest=True), x > 5)


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
