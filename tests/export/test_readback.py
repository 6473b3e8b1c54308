"""Every format of export is read back by two readers that share no code: pixels, origin, direction, spacing and masks."""

import csv
from pathlib import Path

import nibabel as nib
import numpy as np
import pydicom
import pytest
import SimpleITK as sitk
from PIL import Image
from tests.conftest import quiet
from tests.export.export_cases import AFFINE, SHAPE, manifest_of

from medadv.export.dicom import write_dicom
from medadv.export.export import Request, export
from medadv.export.item import Item
from medadv.export.names import series_of
from medadv.export.nifti import write_nifti
from medadv.training.dataset import CorpusDataset

MANIFEST = manifest_of({"a": ("pgd", 4.0)})


def affine_of(image: sitk.Image) -> np.ndarray:
    """Voxel to RAS+ mm of what ITK read, whose world is LPS+."""
    affine = np.eye(4)
    affine[:3, :3] = np.array(image.GetDirection()).reshape(3, 3) * image.GetSpacing()
    affine[:3, 3] = image.GetOrigin()
    return np.diag([-1.0, -1.0, 1.0, 1.0]) @ affine


def itk(path: Path) -> tuple[np.ndarray, sitk.Image]:
    """(x, y, …) values and the image, by SimpleITK."""
    image = sitk.ReadImage(str(path))
    return sitk.GetArrayFromImage(image).T, image


def stored(corpus: Path, attack: str) -> dict[str, dict[str, np.ndarray]]:
    """Images, masks and affines of a corpus by sample, as stored."""
    dataset = CorpusDataset(corpus, attack)
    names = {"image": "clean", "adversarial": attack, "label": "label", "affine": "affine"}
    items = [dataset[index] for index in range(len(dataset))]
    return {item["sample_id"]: {name: np.asarray(item[key]) for key, name in names.items() if key in item} for item in items}


@pytest.mark.parametrize("which", ["ct_slices", "ct_volumes"])
def test_nifti_by_nibabel_and_simpleitk(which: str, request: pytest.FixtureRequest, tmp_path: Path) -> None:
    corpus = request.getfixturevalue(which)
    summary = export(corpus, Request("nifti", tmp_path / "out", "pgd-90", clean=True), quiet)
    truth = stored(corpus, "pgd-90")
    assert summary.files == 3 * len(truth) + 1
    shape = SHAPE if which == "ct_volumes" else (*SHAPE[:2], 1)
    for sample, parts in truth.items():
        _, index = series_of(sample)
        expected = AFFINE.copy()
        expected[:3, 3] += AFFINE[:3, 2] * (index or 0)
        assert np.allclose(parts["affine"], expected)
        for name in ("clean", "pgd-90", "label"):
            path = tmp_path / "out" / f"{sample}_{name}.nii.gz"
            first = nib.load(path)
            second, image = itk(path)
            assert first.shape == second.shape == shape
            values = parts[name].reshape(shape)
            assert np.array_equal(np.asarray(first.dataobj), values)
            assert np.array_equal(second, values)
            assert np.allclose(first.affine, expected, atol=1e-4)
            assert np.allclose(affine_of(image), expected, atol=1e-4)
            assert np.allclose(first.header.get_zooms()[:3], [0.75, 0.5, 2.5])
            assert np.allclose(image.GetSpacing(), [0.75, 0.5, 2.5])


@pytest.mark.parametrize("axes", ["xy", "xyz"])
def test_masks_of_several_classes_in_nifti(axes: str, tmp_path: Path) -> None:
    """One mask a class goes last, behind three spatial axes, and never takes the place of z."""
    draw = np.random.default_rng(0)
    shape = SHAPE[: len(axes)]
    label = draw.integers(0, 2, (3, *shape), np.uint8)
    item = Item("m", "a", draw.integers(-1000, 1000, (1, *shape), np.int16), "hu", axes, label, AFFINE, {})
    path = write_nifti(tmp_path, item, MANIFEST)[1]
    whole = np.moveaxis(label.reshape(3, *shape, *(1,) * (3 - len(shape))), 0, -1)
    values, image = itk(path)
    assert np.array_equal(np.asarray(nib.load(path).dataobj), whole)
    assert np.array_equal(values, whole)
    assert np.allclose(image.GetSpacing()[:3], [0.75, 0.5, 2.5])


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("which", ["ct_slices", "ct_volumes", "ct_series"])
def test_dicom_by_pydicom_and_simpleitk(which: str, request: pytest.FixtureRequest, tmp_path: Path) -> None:
    """The folder of a series is its volume, whether the corpus holds it whole or slice by slice."""
    corpus = request.getfixturevalue(which)
    export(corpus, Request("dicom", tmp_path / "out", "pgd-90", clean=True), quiet)
    truth = stored(corpus, "pgd-90")
    for series in {series_of(sample)[0] for sample in truth}:
        own = [truth[sample] for sample in sorted(truth) if series_of(sample)[0] == series]
        affine = own[0]["affine"]
        for name in ("clean", "pgd-90"):
            expected = np.concatenate([part[name].reshape(*SHAPE[:2], -1) for part in own], axis=2)
            folder = tmp_path / "out" / f"{series}_{name}"
            slices = [pydicom.dcmread(path) for path in sorted(folder.iterdir())]
            assert np.array_equal(np.stack([s.pixel_array * s.RescaleSlope + s.RescaleIntercept for s in slices]).T, expected)
            for z, found in enumerate(slices):
                origin = np.diag([-1, -1, 1]) @ (affine[:3, 3] + z * affine[:3, 2])
                assert np.allclose(np.array(found.ImagePositionPatient, float), origin, atol=1e-4)
                assert np.allclose([*found.PixelSpacing, found.SliceThickness], np.linalg.norm(affine[:3, [1, 0, 2]], axis=0))
            reader = sitk.ImageSeriesReader()
            (uid,) = reader.GetGDCMSeriesIDs(str(folder))
            reader.SetFileNames(reader.GetGDCMSeriesFileNames(str(folder), uid))
            image = reader.Execute()
            flipped = np.linalg.det(affine[:3, :3]) < 0
            values = sitk.GetArrayFromImage(image).T
            # GDCM orders slices along columns x rows, which a left-handed grid runs against.
            found = affine_of(image)
            if flipped:
                assert np.array_equal(values[..., ::-1], expected)
                found = found @ np.array([[1, 0, 0, 0], [0, 1, 0, 0], [0, 0, -1, SHAPE[2] - 1], [0, 0, 0, 1.0]])
            else:
                assert np.array_equal(values, expected)
            assert np.allclose(found, affine, atol=1e-3)


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("size", [(9, 11), (8, 12)])
def test_secondary_captures_by_pydicom_and_simpleitk(channels: int, size: tuple[int, int], tmp_path: Path) -> None:
    image = np.random.default_rng(channels).integers(0, 256, (channels, *size), np.uint8)
    item = Item("p", None, image, "level8", "yx", np.int64(1), None, {"format": "JPEG"})
    (path,) = write_dicom(tmp_path, item, MANIFEST, patient="g")
    pixels = np.moveaxis(image, 0, -1) if channels == 3 else image[0]
    assert np.array_equal(pydicom.dcmread(path).pixel_array, pixels)
    assert np.array_equal(sitk.GetArrayFromImage(sitk.ReadImage(str(path)))[0], pixels)


def test_png_by_pillow_and_simpleitk(tiny_corpus: Path, tmp_path: Path) -> None:
    export(tiny_corpus, Request("png", tmp_path / "out", "smia-8", clean=True), quiet)
    truth = stored(tiny_corpus, "smia-8")
    with (tmp_path / "out" / "labels.csv").open() as stream:
        rows = {row["file"]: row for row in csv.DictReader(stream)}
    assert len(rows) == 2 * len(truth) == 20
    for sample, parts in truth.items():
        for name in ("clean", "smia-8"):
            path = tmp_path / "out" / f"{sample}_{name}.png"
            pixels = np.moveaxis(parts[name], 0, -1)
            assert np.array_equal(np.asarray(Image.open(path)), pixels)
            assert np.array_equal(sitk.GetArrayFromImage(sitk.ReadImage(str(path))), pixels)
            assert int(rows[path.name]["label"]) == int(parts["label"])
