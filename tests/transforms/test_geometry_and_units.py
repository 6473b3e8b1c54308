"""Masks against the affine of their image, and volumes that do not say in which unit they are."""

from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
from ct_phantoms import ct_slice, stored_values, write_nifti, write_series

from medadv_transforms import InputError, count_slices, open_slices, read_ct_slice, read_ct_volume, read_mask

AFFINE = np.array([[-0.8, 0, 0, 40], [0, 0, -2.5, 30], [0, 1.1, 0, -20], [0, 0, 0, 1.0]])
VOLUME = (np.arange(240).reshape(6, 8, 5) * 7 - 900).astype(np.int16)
LABELS = (VOLUME % 3).astype(np.uint8)


def shifted(x: float = 0, y: float = 0, z: float = 0) -> np.ndarray:
    """The affine, moved by so many voxels."""
    move = np.eye(4)
    move[:3, 3] = x, y, z
    return AFFINE @ move


@pytest.mark.parametrize("affine", [shifted(1), shifted(0, 0, -2), shifted(0.3), np.eye(4), AFFINE @ np.diag([1, 1, 1.5, 1])])
def test_a_mask_of_the_same_shape_that_lies_elsewhere_is_refused(tmp_path: Path, affine: np.ndarray) -> None:
    image, mask = write_nifti(tmp_path / "i.nii", VOLUME, AFFINE), write_nifti(tmp_path / "m.nii", LABELS, affine)
    for loaded, expected in ((read_ct_volume([image]), LABELS), (read_ct_slice([image], 3), LABELS[..., 3])):
        with pytest.raises(InputError, match="label-geometry"):
            read_mask([mask], loaded)
        np.testing.assert_array_equal(read_mask([mask], loaded, voxels=True)[0], expected)


def test_rounded_headers_are_the_same_grid(tmp_path: Path) -> None:
    image = read_ct_volume([write_nifti(tmp_path / "i.nii", VOLUME, AFFINE)])
    for affine in (shifted(0.05), np.round(AFFINE + 0.004, 2)):
        mask, _ = read_mask([write_nifti(tmp_path / "m.nii", LABELS, affine)], image)
        np.testing.assert_array_equal(mask, LABELS)


def test_an_exchanged_or_flipped_grid_is_turned_also_when_the_image_is(tmp_path: Path) -> None:
    path = write_nifti(tmp_path / "i.nii", VOLUME, AFFINE)
    turned = read_ct_volume([path], orientation="RAS")
    plain = nib.orientations.ornt_transform(nib.io_orientation(AFFINE), nib.io_orientation(turned.affine))
    expected = nib.orientations.apply_orientation(LABELS, plain)
    other = np.array([[2, -1], [0, 1], [1, -1]], float)
    mask = write_nifti(
        tmp_path / "m.nii", nib.orientations.apply_orientation(LABELS, other), AFFINE @ nib.orientations.inv_ornt_aff(other, LABELS.shape)
    )
    found, warnings = read_mask([mask], turned)
    np.testing.assert_array_equal(found, expected)
    assert warnings == []


def test_values_beside_whole_numbers_are_rounded_with_a_note(tmp_path: Path) -> None:
    image = read_ct_volume([write_nifti(tmp_path / "i.nii", VOLUME, AFFINE)])
    near = LABELS * np.float64(0.99999999977)
    mask, warnings = read_mask([write_nifti(tmp_path / "m.nii", near, AFFINE)], image)
    np.testing.assert_array_equal(mask, LABELS)
    assert warnings == ["mask values rounded to whole numbers"]
    with pytest.raises(InputError, match="label-values"):
        read_mask([write_nifti(tmp_path / "m.nii", LABELS * 0.998, AFFINE)], image)


def test_one_volume_a_class(tmp_path: Path) -> None:
    image = read_ct_volume([write_nifti(tmp_path / "i.nii", VOLUME, AFFINE)])
    files = [write_nifti(tmp_path / f"{k}.nii", np.equal(LABELS, k).astype(np.uint8), AFFINE) for k in (1, 2)]
    np.testing.assert_array_equal(read_mask(files, image)[0], LABELS)
    np.testing.assert_array_equal(read_mask(files, image, multilabel=True)[0], [LABELS == 1, LABELS == 2])
    with pytest.raises(InputError, match="label-overlap"):
        read_mask([files[0], files[0]], image)
    with pytest.raises(InputError, match="label-values"):
        read_mask([files[0], write_nifti(tmp_path / "b.nii", LABELS, AFFINE)], image)


@pytest.mark.parametrize("dtype", ["i2", "u2", "i4", "u4"])
def test_integers_from_zero_up_without_a_rescale_are_no_hu(tmp_path: Path, dtype: str) -> None:
    values = VOLUME.astype(np.int32) + 1024
    path = write_nifti(tmp_path / "a.nii.gz", values.astype(dtype), AFFINE)
    assert not open_slices([path]).says_hu()
    for read in (lambda **o: read_ct_volume([path], **o), lambda **o: read_ct_slice([path], 2, **o)):
        with pytest.raises(InputError, match="not-hu"):
            read()
        image = read(offset=-1024)
        np.testing.assert_array_equal(image.image[0], VOLUME if image.spatial_axes == "xyz" else VOLUME[..., 2])
        assert image.facts["offset_hu"] == -1024
        np.testing.assert_array_equal(read(offset=0).image, image.image + 1024)


def test_what_states_its_unit_takes_no_offset(tmp_path: Path) -> None:
    scaled = nib.Nifti1Image((VOLUME + 1024).astype(np.int16), AFFINE)
    scaled.header.set_slope_inter(1, -1024)
    nib.save(scaled, tmp_path / "scaled.nii")
    kinds = {
        "below zero": write_nifti(tmp_path / "a.nii", VOLUME, AFFINE),
        "rescale": tmp_path / "scaled.nii",
        "8 bits": write_nifti(tmp_path / "b.nii", (LABELS * 90).astype(np.uint8), AFFINE),
        "fractions": write_nifti(tmp_path / "c.nii", LABELS * 90.0, AFFINE),
    }
    for path in kinds.values():
        assert open_slices([path]).says_hu()
        np.testing.assert_array_equal(read_ct_volume([path], offset=-1024).image, read_ct_volume([path]).image)


def test_the_only_voxel_below_zero_may_be_the_last_one(tmp_path: Path) -> None:
    values = np.full((64, 64, 40), 50, np.int16)
    values[-1, -1, -1] = -3
    path = write_nifti(tmp_path / "a.nii.gz", values, AFFINE)
    assert open_slices([path]).says_hu()
    assert read_ct_slice([path], 0).image.max() == 50


def test_a_series_is_judged_as_a_whole(tmp_path: Path) -> None:
    signed = {"RescaleIntercept": "0", "PixelRepresentation": 1, "BitsStored": 16, "HighBit": 15}
    arrays = [stored_values(z).astype(np.int16) for z in range(3)]
    below = [array - 700 * (z == 2) for z, array in enumerate(arrays)]
    files = write_series(tmp_path / "hu", [ct_slice(z, array=below[z], **signed) for z in range(3)])
    # The first slice alone holds nothing below 0; the last one speaks for it.
    np.testing.assert_array_equal(read_ct_slice(files, 0, offset=-1024).image[0], arrays[0].T)
    files = write_series(tmp_path / "raw", [ct_slice(z, array=arrays[z], **signed) for z in range(3)])
    for read in (lambda **o: read_ct_slice(files, 1, **o), lambda **o: read_ct_volume(files, **o)):
        with pytest.raises(InputError, match="not-hu"):
            read()
        assert read(offset=-1024).image.min() == (-924 if read(offset=0).spatial_axes == "xy" else -1024)


@pytest.mark.parametrize("options", [{"orientation": "RAS"}, {"orientation": "PSL"}, {"spacing": (1.0, 2.0, 1.0), "orientation": "LPS"}])
def test_slices_of_a_turned_volume_are_that_volumes(tmp_path: Path, options: dict) -> None:
    path = write_nifti(tmp_path / "i.nii", VOLUME, AFFINE)
    volume, mask = read_ct_volume([path], **options), write_nifti(tmp_path / "m.nii", LABELS, AFFINE)
    labels, _ = read_mask([mask], volume)
    assert count_slices([path], **options) == volume.image.shape[3]
    for index in range(volume.image.shape[3]):
        one = read_ct_slice([path], index, **options)
        np.testing.assert_array_equal(one.image, volume.image[..., index])
        np.testing.assert_allclose(one.affine @ [1, 2, 0, 1], volume.affine @ [1, 2, index, 1])
        assert "".join(nib.aff2axcodes(one.affine)) == options["orientation"] == one.facts["orientation"]
        np.testing.assert_array_equal(read_mask([mask], one)[0], labels[..., index])
        assert one.facts["clipped_voxels"] == 0
    with pytest.raises(InputError, match="bad-index"):
        read_ct_slice([path], volume.image.shape[3], **options)
