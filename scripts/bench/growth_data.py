"""Data sets of any size for growth.py: tiny images in each layout, a victim of random weights, a single-step attack."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import torch
import yaml
from PIL import Image
from pydicom.dataset import FileDataset, FileMetaDataset
from pydicom.uid import ExplicitVRLittleEndian, generate_uid
from safetensors.torch import save_file
from small import TINY

from medadv.victims.sources.registry import build_network

SIZE = 32
SERIES = 1000
"""Slices of a series or volume at most: a chest CT has 300 to 800."""

AFFINE = np.diag([-0.7, -0.7, 1.0, 1.0])
CT_CLASS = "1.2.840.10008.5.1.4.1.1.2"


def unet(dims: int) -> dict[str, Any]:
    """A segmentation victim of a thousand weights."""
    network = {"spatial_dims": dims, "in_channels": 1, "out_channels": 2, "channels": [4, 8], "strides": [2]}
    return {"network": "monai:unet", "arguments": network, "normalize": {"window": [-1000, 400]}}


CLASSIFIER = {"network": "monai:densenet121", "arguments": TINY, "normalize": {"mean": [0.5] * 3, "std": [0.25] * 3}}
DETECTOR = {
    "network": "torchvision:fcos_resnet18_fpn_gn",
    "arguments": {"num_classes": 2, "size": SIZE},
    "normalize": {"mean": [0.5] * 3, "std": [0.25] * 3},
}


def ct(seed: int, *shape: int) -> np.ndarray:
    """HU that differ from image to image."""
    return np.random.default_rng([3, seed]).integers(-900, 300, shape, np.int16)


def dicom(folder: Path, count: int) -> dict[str, Any]:
    """Series of uncompressed slices, each a patient's."""
    for first in range(0, count, SERIES):
        place = folder / f"{first:05d}"
        place.mkdir(parents=True)
        series = generate_uid(entropy_srcs=[str(first)])
        for z in range(min(SERIES, count - first)):
            slice_of(series, first, z).save_as(place / f"{z:04d}.dcm", enforce_file_format=True)
    return {"data": {"modality": "ct", "task": "segmentation", "layout": "dicom", "label": "none"}, "victim": unet(2)}


def slice_of(series: str, patient: int, z: int) -> FileDataset:
    """One slice at z mm."""
    meta = FileMetaDataset()
    meta.TransferSyntaxUID = ExplicitVRLittleEndian
    meta.MediaStorageSOPClassUID, meta.MediaStorageSOPInstanceUID = CT_CLASS, f"{series[:50]}.{z + 1}"
    values = (ct(patient + z, SIZE, SIZE) + 1024).astype(np.uint16)
    dataset = FileDataset("", {}, file_meta=meta, preamble=b"\0" * 128)
    attributes = {
        "SOPClassUID": CT_CLASS,
        "SOPInstanceUID": meta.MediaStorageSOPInstanceUID,
        "Modality": "CT",
        "PatientID": f"p{patient}",
        "StudyInstanceUID": f"{series[:50]}.1",
        "SeriesInstanceUID": series,
        "FrameOfReferenceUID": f"{series[:50]}.2",
        "ImagePositionPatient": [0.0, 0.0, float(z)],
        "ImageOrientationPatient": [1, 0, 0, 0, 1, 0],
        "PixelSpacing": [0.7, 0.7],
        "SliceThickness": 1.0,
        "Rows": SIZE,
        "Columns": SIZE,
        "SamplesPerPixel": 1,
        "PhotometricInterpretation": "MONOCHROME2",
        "BitsAllocated": 16,
        "BitsStored": 12,
        "HighBit": 11,
        "PixelRepresentation": 0,
        "RescaleSlope": "1",
        "RescaleIntercept": "-1024",
        "PixelData": values.tobytes(),
    }
    for keyword, value in attributes.items():
        setattr(dataset, keyword, value)
    return dataset


def nifti(folder: Path, count: int) -> dict[str, Any]:
    """Slices of compressed volumes with masks."""
    records = [volume(folder, first, min(SERIES, count - first)) for first in range(0, count, SERIES)]
    (folder / "dataset.json").write_text(json.dumps({"training": records}))
    return {**DECATHLON, "victim": unet(2), "preprocess": {"as": "slices"}}


def volumes(folder: Path, count: int) -> dict[str, Any]:
    """Whole volumes of eight slices with masks."""
    records = [volume(folder, number, 8) for number in range(count)]
    (folder / "dataset.json").write_text(json.dumps({"training": records}))
    return {**DECATHLON, "victim": unet(3)}


DECATHLON = {
    "data": {"modality": "ct", "task": "segmentation", "layout": "decathlon", "path": "data/dataset.json", "group": "patient"},
}


def volume(folder: Path, number: int, depth: int) -> dict[str, str]:
    """Write a volume and its mask; returns their record."""
    values = ct(number, SIZE, SIZE, depth)
    names = {"image": f"image{number:05d}.nii.gz", "label": f"mask{number:05d}.nii.gz"}
    for name, array in zip(names.values(), (values, (values > 0).astype(np.uint8)), strict=True):
        image = nib.Nifti1Image(array, AFFINE)
        image.header.set_xyzt_units("mm")
        nib.save(image, folder / name)
    return {**names, "patient": f"p{number}"}


def pictures(folder: Path, count: int) -> list[str]:
    """PNG files of two brightnesses in `images/`; their names."""
    (folder / "images").mkdir(parents=True)
    names = [f"{number:05d}.png" for number in range(count)]
    for number, name in enumerate(names):
        coarse = np.random.default_rng([7, number]).integers(40, 216, (6, 6, 3), np.uint8)
        Image.fromarray(coarse).resize((SIZE, SIZE), Image.Resampling.BICUBIC).save(folder / "images" / name)
    return names


def csv(folder: Path, count: int) -> dict[str, Any]:
    """A table of pictures, classes and patients."""
    rows = [f"images/{name},{number % 2},p{number // 3}" for number, name in enumerate(pictures(folder, count))]
    (folder / "labels.csv").write_text("\n".join(["file,grade,patient", *rows]) + "\n")
    data = {"layout": "csv", "path": "data/labels.csv", "label": "grade", "group": "patient"}
    return {"data": {"modality": "fundus", "task": "classification", **data}, "victim": CLASSIFIER, "preprocess": {"size": [SIZE, SIZE]}}


def coco(folder: Path, count: int) -> dict[str, Any]:
    """Pictures with a box each in one json."""
    images = [{"id": number, "file_name": f"images/{name}"} for number, name in enumerate(pictures(folder, count))]
    boxes = [{"id": n, "image_id": n, "category_id": 1, "bbox": [4, 4, 12 + n % 8, 16]} for n in range(count)]
    (folder / "boxes.json").write_text(json.dumps({"images": images, "annotations": boxes, "categories": [{"id": 1, "name": "polyp"}]}))
    return {"data": {**DETECTION, "layout": "coco", "path": "data/boxes.json"}, "victim": DETECTOR, "preprocess": {"size": [SIZE, SIZE]}}


def yolo(folder: Path, count: int) -> dict[str, Any]:
    """Pictures with a box each in a text file each."""
    (folder / "labels").mkdir(parents=True)
    for name in pictures(folder, count):
        (folder / "labels" / name).with_suffix(".txt").write_text("0 0.4 0.4 0.5 0.5\n")
    return {"data": {**DETECTION, "layout": "yolo"}, "victim": DETECTOR, "preprocess": {"size": [SIZE, SIZE]}}


DETECTION = {"modality": "endoscopy", "task": "detection"}

CASES: dict[str, Callable[[Path, int], dict[str, Any]]] = {
    "dicom": dicom,
    "nifti": nifti,
    "volumes": volumes,
    "csv": csv,
    "coco": coco,
    "yolo": yolo,
}
"""Case -> what writes its data and returns what its spec says."""


def build(case: str, folder: Path, count: int) -> Path:
    """Data, weights and spec of `count` samples in an empty folder; returns the spec."""
    (folder / "data").mkdir(parents=True)
    found = CASES[case](folder / "data", count)
    with torch.random.fork_rng():
        torch.manual_seed(0)
        save_file(build_network(found["victim"]["network"], found["victim"]["arguments"]).state_dict(), folder / "victim.safetensors")
    spec = {
        "name": case,
        "preprocess": {"as": "slices"} if case == "dicom" else {},
        "attacks": {"fgsm-4": {"attack": "fgsm", "epsilon": 4}},
        "execution": {"batch_size": 16, "shard_size": 32, "workers": 1},
        "sanity_samples": 4,
        "output": "corpus",
        **found,
        "data": {"path": "data", **found["data"]},
        "victim": {**found["victim"], "weights": "victim.safetensors"},
    }
    path = folder / "spec.yaml"
    path.write_text(yaml.safe_dump(spec))
    return path
