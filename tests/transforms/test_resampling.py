"""Reorienting and resampling volumes, and the way back."""

from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import pytest
import SimpleITK as sitk
from tests.transforms.ct_phantoms import write_nifti
from tests.transforms.nifti_files import image_on

from medadv_transforms import read_ct_volume, read_mask, restore_grid


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
