"""Every real file is read rightly or refused for the right reason, as the table in transforms/README.md says."""

import re
from pathlib import Path
from typing import Any, NamedTuple

import nibabel as nib
import numpy as np
import pytest
import SimpleITK as sitk
from PIL import Image, ImageOps

from medadv_transforms import InputError, find_series, read_colour, read_ct_slice, read_ct_volume, read_mask

README = Path(__file__).parents[2] / "transforms" / "README.md"

EVERY = 9
"""Where a row matches more than thirty files, one in so many is decoded; all are matched against the table."""


class Row(NamedTuple):
    patterns: list[str]
    kind: str
    code: str

    def files(self, root: Path) -> list[Path]:
        return sorted({path for pattern in self.patterns for path in root.glob(pattern) if path.is_file()})


def rows() -> list[Row]:
    """The table's rows: globs, how to read, and the reason code where it is refused ("" where it is read)."""
    table = README.read_text().split("## Every kind of file")[1]
    found = []
    for line in table.splitlines():
        cells = [cell.strip() for cell in line.strip("|").split("|")]
        if line.startswith("| `"):
            outcome = re.fullmatch(r"read|refused `([a-z0-9-]+)`", cells[2])
            assert outcome, line
            found.append(Row(re.findall(r"`([^`]+)`", cells[0]), cells[1], outcome[1] or ""))
    return found


def itk(path: Path) -> tuple[np.ndarray, np.ndarray]:
    """(x, y, z) values and affine to RAS+ by SimpleITK."""
    return itk_array(sitk.ReadImage(path))


def itk_array(image: sitk.Image) -> tuple[np.ndarray, np.ndarray]:
    affine = np.eye(4)
    affine[:3, :3] = np.array(image.GetDirection()).reshape(3, 3) * image.GetSpacing()
    affine[:3, 3] = image.GetOrigin()
    return sitk.GetArrayFromImage(image).T, np.diag([-1, -1, 1, 1]) @ affine


def check_volume(files: list[Path]) -> None:
    loaded = read_ct_volume(files)
    if len(files) > 1:
        # ITK sorts by position when it is handed the names in that order.
        ordered = sorted(files, key=lambda path: float(itk(path)[1][2, 3]))
        values, affine = itk_array(sitk.ReadImage([str(path) for path in ordered]))
    else:
        values, affine = itk(files[0])
    np.testing.assert_array_equal(loaded.image[0], np.clip(np.rint(values), -1024, 3071))
    columns = [0, 1, 3] if len(files) == 1 and values.shape[2] == 1 else [0, 1, 2, 3]
    np.testing.assert_allclose(loaded.affine[:, columns], affine[:, columns], atol=2e-3)
    assert loaded.facts["clipped_voxels"] == np.count_nonzero((np.rint(values) < -1024) | (np.rint(values) > 3071))


def check_picture(path: Path, modality: Any) -> None:
    with Image.open(path) as image:
        expected = np.asarray(ImageOps.exif_transpose(image).convert("L" if modality == "ct" else "RGB"))
    expected = expected[None] if expected.ndim == 2 else expected.transpose(2, 0, 1)
    np.testing.assert_array_equal(read_colour(path, modality=modality).image, expected)
    if modality != "ct":
        small = read_colour(path, modality=modality, size=(64, 64), crop=True, restrict_to_field=True)
        assert small.region is not None
        assert small.region.mean() > 0.3


def check_mask(path: Path, kind: str, root: Path) -> None:
    beside = re.search(r"`([^`]+)`", kind)
    if beside:
        image = read_ct_volume(sorted(root.glob(beside[1])))
        mask, warnings = read_mask([path], image)
        # The mask resampled by SimpleITK onto the image's own grid.
        reference: Any = nib.load(path)
        onto = nib.orientations.ornt_transform(nib.io_orientation(reference.affine), nib.io_orientation(image.affine))
        expected = np.asarray(reference.as_reoriented(onto).dataobj)
        assert warnings == []
    elif path.name.endswith(".nii.gz"):
        image = read_ct_volume([path.parents[1] / "images" / path.name])
        mask, warnings = read_mask([path], image)
        expected = sitk.GetArrayFromImage(sitk.ReadImage(path)).T
        assert warnings == []
    else:
        (picture,) = path.parents[1].glob(f"images/{path.stem}.*")
        mask, _ = read_mask([path], read_colour(picture, modality="endoscopy"))
        with Image.open(path) as stored:
            expected = np.asarray(stored.convert("L"))
        expected = expected > 127 if path.suffix == ".jpg" or expected.max() == 255 else expected
    np.testing.assert_array_equal(mask, expected)


def outcome(files: list[Path], kind: str, root: Path) -> str:
    try:
        if kind in ("series", "volume"):
            check_volume(files)
        elif kind.endswith("picture"):
            check_picture(files[0], kind.split()[0])
        else:
            check_mask(files[0], kind, root)
    except InputError as error:
        return error.code
    return ""


@pytest.mark.parametrize("row", rows(), ids=lambda row: f"{row.patterns[0]} as {row.kind.split(' of ')[0]}")
def test_files_do_what_the_table_says(row: Row, real_data: Path) -> None:
    files = row.files(real_data)
    assert files
    if row.kind == "series":
        assert outcome(files, row.kind, real_data) == row.code
        return
    for path in files[:: EVERY if len(files) > 30 else 1]:
        assert outcome([path], row.kind, real_data) == row.code, path.name


def test_every_file_has_a_row(real_data: Path) -> None:
    covered = {path for row in rows() for path in row.files(real_data)}
    missing = [path for path in real_data.rglob("*") if path.is_file() and path not in covered]
    assert [path.relative_to(real_data).as_posix() for path in missing] == []


def test_six_encodings_of_one_slice_are_equal(real_data: Path) -> None:
    images = [read_ct_volume([path]).image for path in sorted(real_data.glob("ct/transfer_syntaxes/*.dcm"))]
    assert len(images) == 6
    for image in images[1:]:
        np.testing.assert_array_equal(image, images[0])


def test_segmentation_object_equals_its_nrrd_twins(real_data: Path) -> None:
    folder = real_data / "ct" / "abdomen_3slice_dicom"
    image = read_ct_volume(sorted(folder.glob("0*.dcm")))
    label_map = {str(number): [number] for number in range(1, 6)}
    planes, warnings = read_mask([folder / "partial_overlaps_SEG.dcm"], image, label_map, multilabel=True)
    assert warnings == []
    seen = set()
    for name in ("partial_overlaps-1.nrrd", "partial_overlaps-2.nrrd"):
        values, affine = itk(folder / name)
        # The NRRD files run along z in the same direction as the volume, or against it.
        same = np.allclose(affine, image.affine, atol=1e-2)
        values = values if same else values[:, :, ::-1]
        for number in set(np.unique(values).tolist()) - {0}:
            np.testing.assert_array_equal(planes[number - 1], values == number)
            seen.add(number)
    assert seen >= {1, 2, 4, 5}


def test_series_of_the_tree(real_data: Path) -> None:
    series = {each.files[0].parent.name: each for each in find_series(real_data / "ct") if len(each.files) > 1}
    lengths = {name: len(each.files) for name, each in series.items()}
    assert lengths == {"abdomen_3slice_dicom": 3, "chest_lidc0314_dicom": 6, "transfer_syntaxes": 6, "upper_abdomen_dicom_j2k": 20}
    positions = [itk(path)[1][2, 3] for path in series["upper_abdomen_dicom_j2k"].files]
    assert positions == sorted(positions)
    assert series["abdomen_3slice_dicom"].uid
    assert series["abdomen_3slice_dicom"].uid not in repr(series)


def test_a_slice_and_its_mask_agree_with_the_volume(real_data: Path) -> None:
    files = sorted((real_data / "ct" / "upper_abdomen_dicom_j2k").iterdir())
    mask_file = [real_data / "ct" / "upper_abdomen_dicom_j2k_seg.nii.gz"]
    volume = read_ct_volume(files)
    mask, _ = read_mask(mask_file, volume)
    plane = read_ct_slice(files, 7)
    np.testing.assert_array_equal(plane.image, volume.image[..., 7])
    np.testing.assert_array_equal(read_mask(mask_file, plane)[0], mask[..., 7])
    # Dense bone is where the vertebrae are labelled (numbers 26 to 50 of that list): image and mask lie on each other.
    bone = np.isin(mask, range(26, 51))
    assert bone.any()
    assert volume.image[0][bone].mean() > 150
