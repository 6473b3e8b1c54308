"""Folders of volumes and series as people have them: DICOM, nnU-Net, pairs, what is set aside and what is refused."""

import json
import shutil
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import pydicom
import pytest
from pydicom.uid import ExplicitVRLittleEndian, generate_uid
from tests.conftest import Said, save_victim, tiny_spec
from tests.datasets.listings import listed, picture, read_all, surveyed, text

from medadv.common.errors import SpecError
from medadv.prepare.request import Options
from medadv.run.run import run


def volume(path: Path, values: np.ndarray, affine: np.ndarray | None = None) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    nib.save(nib.Nifti1Image(values, np.diag([-1.0, -1.0, 2.0, 1.0]) if affine is None else affine), path)
    return path


BODY = (np.arange(6 * 5 * 4).reshape(6, 5, 4) - 60).astype(np.int16)


def dicom(folder: Path, patient: str, *, seed: int = 0, count: int = 4) -> None:
    """A series of 5 x 6 pixels, in HU, spacing 1 x 1 x 2 mm."""
    folder.mkdir(parents=True, exist_ok=True)
    for z in range(count):
        meta = pydicom.dataset.FileMetaDataset()
        meta.TransferSyntaxUID, meta.MediaStorageSOPClassUID = ExplicitVRLittleEndian, "1.2.840.10008.5.1.4.1.1.2"
        meta.MediaStorageSOPInstanceUID = generate_uid(entropy_srcs=[patient, str(seed), str(z)])
        one = pydicom.Dataset()
        one.file_meta = meta
        one.SOPClassUID, one.SOPInstanceUID, one.Modality, one.PatientID = meta.MediaStorageSOPClassUID, generate_uid(), "CT", patient
        one.SeriesInstanceUID = generate_uid(entropy_srcs=[patient, str(seed)])
        one.ImagePositionPatient, one.ImageOrientationPatient = [0, 0, 2 * z], [1, 0, 0, 0, 1, 0]
        one.PixelSpacing, one.SliceThickness, one.Rows, one.Columns = [1, 1], 2, 5, 6
        one.SamplesPerPixel, one.PhotometricInterpretation, one.PixelRepresentation = 1, "MONOCHROME2", 1
        one.BitsAllocated, one.BitsStored, one.HighBit, one.RescaleSlope, one.RescaleIntercept = 16, 16, 15, 1, 0
        one.PixelData = (np.random.default_rng([seed, z]).integers(-900, 100, (5, 6))).astype("<i2").tobytes()
        one.save_as(folder / f"{z}.dcm", enforce_file_format=True)


def test_a_folder_named_in_a_table_is_a_series_of_its_patient(tmp_path: Path) -> None:
    for number in range(2):
        dicom(tmp_path / f"d/p{number}/ct", f"P{number}", seed=number)
    volume(tmp_path / "d/p0/m.nii.gz", np.ones((6, 5, 4), np.uint8))
    volume(tmp_path / "d/p1/m.nii.gz", np.ones((6, 5, 4), np.uint8))
    dicom(tmp_path / "d/two/a", "P8", seed=8)
    dicom(tmp_path / "d/two/b", "P8", seed=9)
    (tmp_path / "d/none").mkdir()
    shutil.copy(tmp_path / "d/p0/ct/1.dcm", tmp_path / "d/p0/ct/again.dcm")
    text(tmp_path / "d/l.csv", "image,mask\np0,p0/m.nii.gz\np1\\ct,p1/m.nii.gz\ntwo,p0/m.nii.gz\nnone,p0/m.nii.gz\n.,p0/m.nii.gz\n")
    data = {"modality": "ct", "task": "segmentation", "layout": "csv", "path": "d/l.csv", "label": "mask"}
    found = listed(tmp_path, **data)
    assert [(len(s.images), s.group) for s in found.sources] == [(4, "P0"), (4, "P1")]
    assert sorted(p.code for p in found.problems) == ["empty-input", "mixed-series", "not-found"]
    assert found.remarks == ["1 file set aside: byte-for-byte copy of a slice"]
    assert list(found.aside) == ["p0/ct/again.dcm"]
    assert "again" not in " ".join(found.remarks)


def test_dicom_trees_of_labelled_series(tmp_path: Path) -> None:
    for number in range(2):
        dicom(tmp_path / f"d/s/p{number}", f"P{number}", seed=number)
        volume(tmp_path / f"m/p{number}.nii.gz", np.full((6, 5, 4), number + 1, np.uint8))
        volume(tmp_path / f"d/s/p{number}/seg.nii.gz", np.full((6, 5, 4), number + 1, np.uint8))
    data = {"modality": "ct", "task": "segmentation", "layout": "dicom", "path": "d"}
    for label in ("m/{name}.nii.gz", "d/{folder}/seg.nii.gz"):
        found = listed(tmp_path, label=label, **data)
        # The mask in the tree is no stray file where it is the label, and one otherwise.
        assert [p.code for p in found.problems] == (["not-dicom"] * 2 if label.startswith("m") else [])
        samples = read_all(tmp_path, label=label, **data)
        assert [int(s.label.max()) for s in samples] == [1, 2]
    (tmp_path / "m/p1.nii.gz").unlink()
    found = listed(tmp_path, label="m/{name}.nii.gz", **data)
    assert (len(found.sources), [p.code for p in found.problems].count("not-found")) == (1, 1)
    for label, words in (("m/p0.nii.gz", "by a template"), ("m/p0{name.x}.nii.gz", "knows"), ("m/x.nii.gz", "does not exist")):
        with pytest.raises(SpecError, match=words):
            listed(tmp_path, label=label, **data)


@pytest.mark.usefixtures("inline")
def test_a_run_counts_what_it_set_aside_and_names_it_in_private_alone(tmp_path: Path) -> None:
    for number in range(2):
        dicom(tmp_path / f"d/p{number}", f"P{number}", seed=number)
    shutil.copy(tmp_path / "d/p0/1.dcm", tmp_path / "d/p0/again.dcm")
    text(tmp_path / "d/l.csv", "scan,grade\np0,0\np1,1\n")
    network = {"spatial_dims": 3, "in_channels": 1, "out_channels": 2, "init_features": 4, "growth_rate": 2, "block_config": [1]}
    save_victim(tmp_path / "victim.safetensors", "monai:densenet121", network)
    spec = tiny_spec(
        tmp_path,
        data={"modality": "ct", "task": "classification", "layout": "csv", "path": "d/l.csv", "label": "grade", "image": "scan"},
        preprocess={},
        victim__arguments=network,
        victim__normalize={"window": [-1000, 400]},
        attacks={"a": {"attack": "fgsm", "epsilon": 20}},
        sanity_samples=0,
    )
    said = Said()
    result = run(spec, Options(), said)
    assert (result.exit_code, result.manifest.samples) == (0, 2)
    assert "1 file set aside: byte-for-byte copy of a slice" in said
    assert json.loads((result.corpus / ".medadv/aside.json").read_text()) == {"p0/again.dcm": "byte-for-byte copy of a slice"}
    public = [path for path in result.corpus.rglob("*") if path.is_file() and ".medadv" not in path.parts]
    assert not any(b"again.dcm" in path.read_bytes() for path in public)


def nnunet(folder: Path, **changes: Any) -> None:
    for number in range(2):
        volume(folder / f"imagesTr/ct_{number}_0000.nii.gz", BODY)
        volume(folder / f"labelsTr/ct_{number}.nii.gz", (np.abs(BODY) % 4).astype(np.uint8))
    document = {
        "channel_names": {"0": "CT"},
        "labels": {"background": 0, "lung": 1, "tumour": 2, "ignore": 3},
        "numTraining": 3,
        "file_ending": ".nii.gz",
        **changes,
    }
    text(folder / "dataset.json", json.dumps(document))


def test_nnunet_raw_data(tmp_path: Path) -> None:
    nnunet(tmp_path)
    volume(tmp_path / "labelsTr/ct_9.nii.gz", np.zeros(BODY.shape, np.uint8))
    text(tmp_path / "imagesTr/list.txt", "x")
    data = {"modality": "ct", "task": "segmentation", "layout": "nnunet"}
    found = listed(tmp_path, **data)
    assert found.classes == ["lung", "tumour"]
    assert found.notes == ["1 file skipped (1 .txt)", "dataset.json states 3 training cases, the folder holds 2", "1 mask without an image"]
    for sample in read_all(tmp_path, path="dataset.json", **data):
        values = np.abs(BODY) % 4
        np.testing.assert_array_equal(sample.label, np.where(values == 3, 255, values))
    wrong: list[tuple[dict[str, Any], str]] = [
        ({"channel_names": {"0": "CT", "1": "PET"}}, "2 channels"),
        ({"file_ending": None}, "version 1 is layout decathlon"),
        ({"labels": {"background": 0, "whole": [1, 2]}}, "regions"),
        ({"labels": {"background": 0, "lung": 2}}, "without a gap"),
    ]
    for changes, words in wrong:
        nnunet(tmp_path, **changes)
        with pytest.raises(SpecError, match=words):
            listed(tmp_path, **data)
    nnunet(tmp_path)
    with pytest.raises(SpecError, match="no such folder"):
        listed(tmp_path, split={"use": "Ts"}, **data)


def test_folders_say_what_they_skip_and_refuse_foreign_volumes(tmp_path: Path) -> None:
    picture(tmp_path / "a/x.webp")
    picture(tmp_path / "b/y.ppm")
    text(tmp_path / "b/y", "x")
    text(tmp_path / "b/y.xml", "x")
    found = listed(tmp_path, modality="fundus", task="classification", layout="folders")
    assert ([s.images for s in found.sources], found.notes) == ([("a/x.webp",), ("b/y.ppm",)], ["2 files skipped (1 .xml, 1 no suffix)"])
    text(tmp_path / "ct/a/v.nrrd", "NRRD0004\n")
    volume(tmp_path / "ct/b/v.nii.gz", BODY)
    seen = surveyed(tmp_path, preprocess={}, modality="ct", task="classification", layout="folders", path="ct")
    assert [(p.path, p.code) for p in seen.problems] == [("a/v.nrrd", "unsupported-format")]


def test_pairs_say_what_has_no_partner(tmp_path: Path) -> None:
    for name in ("images/a.png", "images/b.jpg", "masks/a.png", "masks/z.png"):
        picture(tmp_path / name)
    found = listed(tmp_path, task="segmentation", layout="folders", image="images/{id}.png", label="masks/{id}.png")
    assert len(found.sources) == 1
    assert found.notes == ["1 mask without an image", "1 file skipped (1 .jpg)"]


def test_slices_in_another_orientation_and_spacing_are_planned_as_they_are_read(tmp_path: Path) -> None:
    affine = np.array([[0, 0, 2.0, 0], [-1, 0, 0, 0], [0, -1, 0, 0], [0, 0, 0, 1.0]])
    volume(tmp_path / "a/v.nii.gz", BODY, affine)
    volume(tmp_path / "b/w.nii.gz", BODY - 1, affine)
    data = {"modality": "ct", "task": "classification", "layout": "folders"}
    preprocess = {"as": "slices", "orientation": "RAS", "spacing": [2.0, 1.0, 2.5]}
    seen = surveyed(tmp_path, preprocess=preprocess, **data)
    samples = read_all(tmp_path, preprocess=preprocess, **data)
    assert (len(seen.found), seen.problems) == (len(samples), [])
    assert {item.shape.shape for item in seen.found} == {sample.image.shape for sample in samples} == {(1, 4, 6)}
    assert all("".join(nib.aff2axcodes(sample.affine)) == "RAS" for sample in samples)
