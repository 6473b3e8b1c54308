"""Masks of volumes on any grid, label maps, and DICOM segmentations."""

from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
import SimpleITK as sitk
from tests.transforms.ct_phantoms import COLUMNS, ROWS, ct_slice, segmentation, write_nifti, write_series
from tests.transforms.nifti_files import AFFINE, image_on, volume_values

from medadv_transforms import InputError, read_ct_slice, read_ct_volume, read_mask


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
