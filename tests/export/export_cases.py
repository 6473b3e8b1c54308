"""Small corpora of CT with everything that an export has to keep: an oblique grid, masks, slices of one series, what headers say."""

import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import nibabel as nib
import numpy as np
import pydicom
import pytest
import yaml
from pydicom.dataset import FileDataset, FileMetaDataset
from pydicom.uid import CTImageStorage, ExplicitVRLittleEndian
from tests.conftest import InlinePool, quiet, save_victim, tiny_spec

from medadv.prepare.request import Options
from medadv.run import cluster
from medadv.run.run import run

UNET = {"in_channels": 1, "out_channels": 2, "channels": [4, 8], "strides": [2]}
SHAPE = (16, 24, 4)
"""Unequal, so that a transposed image shows; even, so that the network takes it."""

# Axes along oblique directions, left-handed, so that a swapped axis or sign shows.
TURN = np.array([[0.0, -1.0, 0.0], [np.cos(0.3), 0.0, -np.sin(0.3)], [np.sin(0.3), 0.0, np.cos(0.3)]])
AFFINE = np.eye(4)
AFFINE[:3, :3] = TURN * [0.75, 0.5, 2.5]
AFFINE[:3, 3] = [-31.25, 12.5, 100.75]


def ct_spec(folder: Path, dims: int, data: dict[str, Any]) -> Path:
    """A run spec for a small U-Net and two attacks."""
    save_victim(folder / "victim.safetensors", "monai:unet", {"spatial_dims": dims, **UNET})
    path = tiny_spec(
        folder,
        data={"modality": "ct", "task": "segmentation", **data},
        preprocess={} if dims == 3 else {"as": "slices"},
        victim__network="monai:unet",
        victim__arguments={"spatial_dims": dims, **UNET},
        victim__normalize={"window": [-1000, 400]},
        sanity_samples=0,
    )
    spec = yaml.safe_load(path.read_text())
    spec["attacks"] = {name: {"attack": "pgd", "epsilon": epsilon, "steps": 1} for name, epsilon in (("pgd-20", 20), ("pgd-90", 90))}
    path.write_text(yaml.safe_dump(spec))
    return path


def made(spec: Path) -> Path:
    """The corpus of a spec, its shards made in this process."""
    with pytest.MonkeyPatch.context() as patch:
        from contextlib import nullcontext

        patch.setattr(cluster, "connect", lambda *_, **__: nullcontext(InlinePool()))
        return run(spec, Options(), quiet).corpus


def nifti_corpus(folder: Path, dims: int) -> Path:
    """Two noisy volumes with masks, as volumes or as slices; no group is given."""
    data = folder / "data"
    data.mkdir(parents=True)
    records = []
    for index in range(2):
        draw = np.random.default_rng(index)
        for kind, values in (("image", draw.integers(-1024, 1500, SHAPE, np.int16)), ("mask", draw.integers(0, 2, SHAPE, np.uint8))):
            nib.save(nib.Nifti1Image(values, AFFINE), data / f"{kind}{index}.nii.gz")
        records.append({"image": f"image{index}.nii.gz", "label": f"mask{index}.nii.gz"})
    (data / "dataset.json").write_text(json.dumps({"name": "chest", "training": records}))
    return made(ct_spec(folder, dims, {"layout": "decathlon", "path": "data/dataset.json"}))


def dicom_corpus(folder: Path, dims: int, strata: list[str] | None = None, **header: str) -> Path:
    """One series of four slices whose headers say `header` too.  strata: keywords that the corpus tells of."""
    (folder / "data").mkdir(parents=True)
    for index in range(4):
        meta = FileMetaDataset()
        meta.MediaStorageSOPClassUID, meta.MediaStorageSOPInstanceUID = CTImageStorage, f"1.2.3.{index}"
        meta.TransferSyntaxUID = ExplicitVRLittleEndian
        dataset = FileDataset("", {}, file_meta=meta, preamble=b"\0" * 128)
        dataset.SOPClassUID, dataset.SOPInstanceUID = CTImageStorage, meta.MediaStorageSOPInstanceUID
        dataset.StudyInstanceUID, dataset.SeriesInstanceUID, dataset.FrameOfReferenceUID = "1.2.4", "1.2.5", "1.2.6"
        dataset.PatientID, dataset.Modality, dataset.ImageType = "SECRET-4711", "CT", ["ORIGINAL", "PRIMARY", "AXIAL"]
        dataset.Rows, dataset.Columns = SHAPE[1], SHAPE[0]
        dataset.SamplesPerPixel, dataset.PhotometricInterpretation = 1, "MONOCHROME2"
        dataset.BitsAllocated, dataset.BitsStored, dataset.HighBit, dataset.PixelRepresentation = 16, 12, 11, 0
        dataset.RescaleSlope, dataset.RescaleIntercept, dataset.RescaleType = 1, -1024, "HU"
        dataset.PixelSpacing, dataset.SliceThickness = [0.5, 0.75], 2.5
        dataset.ImageOrientationPatient, dataset.ImagePositionPatient = [1, 0, 0, 0, 1, 0], [3, 4, 2.5 * index]
        dataset.PixelData = np.random.default_rng(index).integers(0, 2000, (SHAPE[1], SHAPE[0]), np.uint16).tobytes()
        for keyword, value in header.items():
            setattr(dataset, keyword, value)
        dataset.save_as(folder / "data" / f"{index}.dcm", enforce_file_format=True)
    return made(ct_spec(folder, dims, {"layout": "dicom", "path": "data", "label": "none", **({"strata": strata} if strata else {})}))


def headers(folder: Path) -> dict[str, pydicom.Dataset]:
    """Every DICOM file below a folder by its name there."""
    return {path.relative_to(folder).as_posix(): pydicom.dcmread(path) for path in sorted(folder.rglob("*.dcm"))}


def manifest_of(attacks: dict[str, tuple[str, float]], unit: str = "hu", classes: list[str] | None = None, root: str = "c" * 64) -> Any:
    """As much of a manifest as writers of single images read. attacks: name -> (attack, epsilon)."""
    return SimpleNamespace(
        content_root=root,
        attacks={name: SimpleNamespace(attack=attack, epsilon=epsilon) for name, (attack, epsilon) in attacks.items()},
        data=SimpleNamespace(unit=unit, classes=classes),
        tool=SimpleNamespace(name="medadv", version="0"),
    )
