"""Nothing that identifies a patient leaves the source: every published byte of a run on DICOM files is searched for it."""

import json
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pydicom
import pytest
import yaml
from pydicom.dataset import FileDataset, FileMetaDataset
from pydicom.uid import CTImageStorage, ExplicitVRLittleEndian, generate_uid
from tests.conftest import quiet, save_victim, tiny_spec

from medadv.prepare.request import Options
from medadv.run.run import run

UNET = {"spatial_dims": 2, "in_channels": 1, "out_channels": 2, "channels": [4, 8], "strides": [2]}
IDENTIFYING = {
    "PatientName": "Doe^Jane^Privacy",
    "PatientID": "PID-4711-SECRET",
    "PatientBirthDate": "19610704",
    "OtherPatientIDs": "OTHER-ID-0815",
    "PatientAddress": "12 Hidden Lane",
    "PatientTelephoneNumbers": "555-0199-77",
    "ReferringPhysicianName": "Welby^Marcus",
    "InstitutionName": "St Elsewhere Hospital",
    "InstitutionAddress": "Elsewhere Street 7",
    "StationName": "SCANNER-ROOM-9",
    "OperatorsName": "Operator^Olga",
    "AccessionNumber": "ACC-998877",
    "StudyDate": "20190317",
    "StudyTime": "134501.123",
    "StudyDescription": "Private study words",
    "SeriesDescription": "Private series words",
    "DeviceSerialNumber": "SN-123456789",
    "PatientComments": "lives next door",
}


def write_series(folder: Path) -> dict[str, str]:
    """Four phantom slices with every identifying tag filled; returns the values that must not come out."""
    folder.mkdir(parents=True)
    study, series, frame = generate_uid(), generate_uid(), generate_uid()
    secrets = {**IDENTIFYING, "StudyInstanceUID": study, "SeriesInstanceUID": series, "FrameOfReferenceUID": frame}
    for index in range(4):
        meta = FileMetaDataset()
        meta.MediaStorageSOPClassUID, meta.MediaStorageSOPInstanceUID = CTImageStorage, generate_uid()
        meta.TransferSyntaxUID = ExplicitVRLittleEndian
        secrets[f"SOPInstanceUID {index}"] = meta.MediaStorageSOPInstanceUID
        name = f"janedoe_slice_{index}.dcm"
        secrets[f"file name {index}"] = name
        dataset = FileDataset(str(folder / name), {}, file_meta=meta, preamble=b"\0" * 128)
        for key, value in {**IDENTIFYING, "StudyInstanceUID": study, "SeriesInstanceUID": series, "FrameOfReferenceUID": frame}.items():
            setattr(dataset, key, value)
        dataset.SOPClassUID, dataset.SOPInstanceUID = CTImageStorage, meta.MediaStorageSOPInstanceUID
        dataset.Modality, dataset.ImageType = "CT", ["ORIGINAL", "PRIMARY", "AXIAL"]
        dataset.Rows = dataset.Columns = 32
        dataset.SamplesPerPixel, dataset.PhotometricInterpretation = 1, "MONOCHROME2"
        dataset.BitsAllocated, dataset.BitsStored, dataset.HighBit, dataset.PixelRepresentation = 16, 12, 11, 0
        dataset.RescaleSlope, dataset.RescaleIntercept, dataset.RescaleType = 1, -1024, "HU"
        dataset.PixelSpacing, dataset.SliceThickness = [1.0, 1.0], 2.0
        dataset.ImageOrientationPatient, dataset.ImagePositionPatient = [1, 0, 0, 0, 1, 0], [0, 0, 2.0 * index]
        pixels = np.random.default_rng(index).integers(0, 2000, (32, 32), np.uint16)
        dataset.PixelData = pixels.tobytes()
        dataset.save_as(folder / name, enforce_file_format=True)
    return secrets


def everything_published(corpus: Path) -> bytes:
    """Raw bytes of every published file, and the decoded attributes and strings of the HDF5 files, which are compressed."""
    parts = []
    for path in sorted(p for p in corpus.rglob("*") if p.is_file() and ".medadv" not in p.relative_to(corpus).parts):
        parts += [path.name.encode(), path.read_bytes()]
        if path.suffix == ".h5":
            parts += words_of(path)
    return b"\n".join(parts)


def words_of(path: Path) -> list[bytes]:
    """Names, attributes and strings of an HDF5 file."""
    words: list[bytes] = []

    def note(name: str, item: Any) -> None:
        words.append(name.encode())
        words.extend(str(value).encode() for value in item.attrs.values())
        if isinstance(item, h5py.Dataset) and item.dtype.kind in "SO":
            words.extend(bytes(value) for value in item[...].ravel())

    with h5py.File(path) as file:
        note("/", file)
        file.visititems(note)
    return words


@pytest.mark.usefixtures("inline")
def test_no_identifying_value_and_no_file_name_is_published(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    secrets = write_series(tmp_path / "data" / "tree")
    # Inputs that are refused must not speak either.
    (tmp_path / "data" / "tree" / "jane_report.txt").write_text("Doe^Jane^Privacy")
    broken = pydicom.dcmread(tmp_path / "data" / "tree" / "janedoe_slice_0.dcm")
    broken.SeriesInstanceUID, broken.SOPInstanceUID = generate_uid(), generate_uid()
    broken.BurnedInAnnotation = "YES"
    broken.save_as(tmp_path / "data" / "tree" / "janedoe_burned.dcm")
    save_victim(tmp_path / "victim.safetensors", "monai:unet", UNET)
    spec = tiny_spec(
        tmp_path,
        data={"modality": "ct", "task": "segmentation", "layout": "dicom", "path": "data/tree", "label": "none"},
        preprocess={"as": "slices"},
        victim__network="monai:unet",
        victim__arguments=UNET,
        victim__normalize={"window": [-1000, 400]},
    )
    content = yaml.safe_load(spec.read_text())
    content["attacks"] = {"pgd-20": {"attack": "pgd", "epsilon": 20, "steps": 1}}
    spec.write_text(yaml.safe_dump(content))
    result = run(spec, Options(), quiet)
    assert result.manifest.samples == 4
    codes = {json.loads(line)["code"] for line in (result.corpus / "quarantine.jsonl").read_text().splitlines()}
    assert "burned-in-annotation" in codes
    published = everything_published(result.corpus) + "".join(capfd.readouterr()).encode()
    for tag, value in {**secrets, "report": "jane_report", "burned": "janedoe_burned"}.items():
        assert value.encode() not in published, tag


def test_the_search_would_find_a_leak(tiny_corpus: Path) -> None:
    """The manifest's own words are found, in plain files and inside HDF5."""
    published = everything_published(tiny_corpus)
    with h5py.File(next(iter((tiny_corpus / "shards").glob("*.h5")))) as file:
        sample = bytes(file["sample_id"][0])
    assert sample in published
    assert b"pgd-8" in published
