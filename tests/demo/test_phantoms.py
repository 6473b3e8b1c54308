"""The drawn images: the same every time, labelled as they are drawn, and the same volume in both CT formats."""

import csv
import hashlib
import json
import runpy
from pathlib import Path

import nibabel
import numpy as np
import pydicom
import pytest
import SimpleITK
from PIL import Image
from scipy.ndimage import gaussian_filter

from medadv.demo import phantoms
from medadv.demo.chest import GROUND_GLASS, NOISE_HU, SHAPE, SUBSLICES, _scan, draw_chest
from medadv.demo.phantoms import WRITERS, write_phantoms
from medadv.demo.phantoms_endoscopy import draw_endoscopy, tight_box
from medadv.demo.phantoms_fundus import GRADES, draw_fundus
from medadv.demo.specs import PARTS

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture(scope="module")
def small(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    return few(tmp_path_factory.mktemp("phantoms"), [])


def few(root: Path, fractions: list[float]) -> dict[str, Path]:
    """All three data sets, of three persons each."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(phantoms, "COUNTS", dict.fromkeys(WRITERS, (2, 1)))
        return {kind: write_phantoms(kind, root, seed=3, progress=lambda fraction, text: fractions.append(fraction)) for kind in WRITERS}


def _hash(root: Path) -> dict[str, str]:
    return {str(p.relative_to(root)): hashlib.sha256(p.read_bytes()).hexdigest() for p in sorted(root.rglob("*")) if p.is_file()}


def test_same_seed_same_bytes_and_progress_ends_at_one(small: dict[str, Path], tmp_path: Path) -> None:
    fractions: list[float] = []
    few(tmp_path, fractions)
    first = _hash(small["ct"].parent.parent)
    # Masks, NIfTI and DICOM of 3 patients, 6 photographs, 12 frames, 3 listings.
    assert len(first) == 3 * (2 + SHAPE[2]) + 6 + 12 + 3
    assert _hash(tmp_path) == first
    assert fractions == [1 / 3, 2 / 3, 1] * 3


def test_another_seed_or_person_gives_another_image() -> None:
    assert not np.array_equal(draw_chest(0, 0).hu, draw_chest(1, 0).hu)
    assert not np.array_equal(draw_fundus(0, 1, "left", 0), draw_fundus(0, 2, "left", 0))
    assert not np.array_equal(draw_endoscopy(0, 1, 0)[0], draw_endoscopy(0, 1, 1)[0])


def test_dicom_series_and_nifti_hold_the_same_hu_in_the_same_place(small: dict[str, Path]) -> None:
    root = small["ct"].parent
    for entry in (listing := json.loads(small["ct"].read_text()))["training"] + listing["validation"]:
        nifti, mask = nibabel.load(root / entry["image"]), nibabel.load(root / entry["label"])
        names = SimpleITK.ImageSeriesReader.GetGDCMSeriesFileNames(str(root / "dicom" / entry["patient"]))
        series = SimpleITK.ReadImage(names)
        hu = np.asarray(nifti.dataobj)
        assert hu.dtype == np.int16
        assert mask.get_data_dtype() == np.uint8
        np.testing.assert_array_equal(SimpleITK.GetArrayFromImage(series).transpose(2, 1, 0), hu)
        np.testing.assert_array_equal(mask.affine, nifti.affine)
        for index in ((0, 0, 0), (127, 0, 0), (0, 127, 0), (5, 9, 11)):
            left_back_up = np.array(series.TransformIndexToPhysicalPoint(index))
            right_front_up = nibabel.affines.apply_affine(nifti.affine, index)
            np.testing.assert_allclose(right_front_up, left_back_up * (-1, -1, 1), atol=1e-3)


def test_dicom_slices_are_valid_ct_images(small: dict[str, Path]) -> None:
    files = sorted((small["ct"].parent / "dicom" / "chest000").iterdir())
    slices = [pydicom.dcmread(file) for file in files]
    assert len(slices) == SHAPE[2]
    for image in slices:
        assert image.SOPClassUID == pydicom.uid.CTImageStorage
        assert image.file_meta.MediaStorageSOPInstanceUID == image.SOPInstanceUID
        assert image.SOPInstanceUID.is_valid
        assert (image.RescaleSlope, image.RescaleIntercept, image.RescaleType) == (1, -1024, "HU")
    assert len({image.SOPInstanceUID for image in slices}) == SHAPE[2]
    assert len({(i.StudyInstanceUID, i.SeriesInstanceUID, i.FrameOfReferenceUID) for i in slices}) == 1
    assert np.diff([image.ImagePositionPatient[2] for image in slices]) == pytest.approx(slices[0].SliceThickness)
    other = pydicom.dcmread(small["ct"].parent / "dicom" / "chest001" / "IM-0001.dcm")
    assert other.FrameOfReferenceUID != slices[0].FrameOfReferenceUID


def test_every_slice_shows_lesions_in_the_lungs_that_noise_does_not_hide() -> None:
    for patient in range(4):
        chest = draw_chest(0, patient)
        inside = chest.hu[chest.lesions == 1]
        # Between lung and vessels, on the mean of thick slices.
        assert -750 < np.median(inside) < GROUND_GLASS[1]
        assert chest.lesions.any(axis=(0, 1)).all()
        assert 0.002 < chest.lesions.mean() < 0.03
        # None lies outside the chest, or across the midline.
        assert not chest.lesions[:10].any()
        assert not chest.lesions[-10:].any()
        assert chest.lesions[62:66].mean() < 0.02


def test_an_attack_of_the_ct_demo_hides_in_the_noise_of_its_scanner(tmp_path: Path) -> None:
    tell = runpy.run_path(str(ROOT / "scripts" / "image_noise.py"))
    epsilon = next(part.epsilon for part in PARTS if part.name == "ct")
    # Of water; between the edges of a chest, in voxels so coarse, few windows are flat.
    water = np.full((*SHAPE[:2], SHAPE[2] * SUBSLICES), 40, np.float32)
    scans = [_scan(np.random.default_rng(seed), water) for seed in range(3)]
    assert all(NOISE_HU[0] - 0.1 < scan.std() < NOISE_HU[1] + 0.1 for scan in scans)
    assert epsilon <= 1.2 * np.mean([scan.std() for scan in scans])
    # Against noise that is known: of photographs without JPEG, and of voxels that correlate as a scanner's do.
    rng = np.random.default_rng(0)
    flat = np.clip(np.rint(rng.normal(120, 5, (3, 200, 200))), 0, 255).astype(np.uint8)
    assert tell["photograph_noise"](flat) == pytest.approx(5, rel=0.05)
    correlated = gaussian_filter(rng.standard_normal((120, 120, 3)), (0.7, 0.7, 0))
    known = np.rint(40 + 20 * correlated / correlated.std()).astype(np.int16)
    # What varies more slowly than a window is wide is not seen.
    assert 17 < tell["ct_noise"](known[None]) < 20
    # Fewer squares than it takes, or nothing that is lit, say nothing.
    assert tell["photograph_noise"](np.zeros_like(flat)) is None
    assert tell["ct_noise"](np.full((1, 32, 32, 1), -900, np.int16)) is None


def test_boxes_are_tight_around_the_polyps_pixels() -> None:
    mask = np.zeros((20, 30), dtype=bool)
    assert tight_box(mask) is None
    mask[4:9, 7:8] = True
    mask[6, 7:15] = True
    assert tight_box(mask) == (7, 4, 8, 5)


def test_a_polyp_lies_where_its_box_says(monkeypatch: pytest.MonkeyPatch) -> None:
    """The same frames drawn with and without polyps differ only near the boxes, and do so at each of their four edges."""
    drawn = [draw_endoscopy(5, session, 0) for session in range(6)]
    from medadv.demo import phantoms_endoscopy

    real = phantoms_endoscopy._paint_polyp

    def shadow_and_all_but_the_body(rng, image, mucosa, x, y, border, others):  # type: ignore[no-untyped-def]
        untouched = image.copy()
        body = real(rng, image, mucosa, x, y, border, others)
        if body is not None:
            image += body[..., None] * (untouched - image)
        return body

    monkeypatch.setattr(phantoms_endoscopy, "_paint_polyp", shadow_and_all_but_the_body)
    for session, (levels, boxes) in enumerate(drawn):
        assert boxes
        plain, same = draw_endoscopy(5, session, 0)
        assert same == boxes
        changed = (np.abs(levels.astype(int) - plain).max(axis=2) > 0) & (levels.max(axis=2) > 8)
        outside = changed.copy()
        for x, y, width, height in boxes:
            assert 8 <= width <= 128
            assert 8 <= height <= 128
            outside[max(y - 1, 0) : y + height + 1, max(x - 1, 0) : x + width + 1] = False
            inner = changed[y : y + height, x : x + width]
            assert inner[:3].any() and inner[-3:].any() and inner[:, :3].any() and inner[:, -3:].any()  # noqa: PT018
        assert not outside.any()


def test_listings_agree_with_the_files_and_keep_people_apart(small: dict[str, Path]) -> None:
    with small["fundus"].open(newline="") as handle:
        rows = list(csv.DictReader(handle))
    assert list(rows[0]) == ["file", "grade", "referable", "split", "patient"]
    assert all(int(row["referable"]) == (int(row["grade"]) >= 2) for row in rows)
    for row in rows:
        with Image.open(small["fundus"].parent / row["file"]) as image:
            assert (image.format, image.size, image.mode) == ("JPEG", (128, 128), "RGB")
    coco = json.loads(small["endoscopy"].read_text())
    assert {a["image_id"] for a in coco["annotations"]} == {i["id"] for i in coco["images"]}
    for image in coco["images"]:
        with Image.open(small["endoscopy"].parent / image["file_name"]) as frame:
            assert frame.size == (image["width"], image["height"])
    for pairs in ([(r["patient"], r["split"]) for r in rows], [(i["group"], i["split"]) for i in coco["images"]]):
        assert len(dict(pairs)) == len(set(pairs)) == 3
        assert {split for _, split in pairs} == {"train", "test"}


def test_grades_are_balanced_and_show() -> None:
    assert sum(grade >= 2 for grade in GRADES) * 2 == len(GRADES)
    # The same eye with and without lesions: lesions are local, and there are more of them in higher grades.
    healthy = draw_fundus(0, 4, "left", 0).astype(int)
    assert np.array_equal(healthy, draw_fundus(0, 4, "left", 0))
    mild, severe = (draw_fundus(0, 4, "left", grade).astype(int) for grade in (1, 3))
    assert (np.abs(severe - healthy).max(axis=2) > 60).sum() > (np.abs(mild - healthy).max(axis=2) > 60).sum()
