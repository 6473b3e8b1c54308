"""Small DICOM and NIfTI files with known content, written with the public writers."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import pydicom
from pydicom.dataset import Dataset, FileDataset, FileMetaDataset
from pydicom.sequence import Sequence as DicomSequence
from pydicom.uid import UID, ExplicitVRLittleEndian, generate_uid

CT_CLASS = "1.2.840.10008.5.1.4.1.1.2"
ENHANCED_CLASS = "1.2.840.10008.5.1.4.1.1.2.1"

GEOMETRY = ("ImagePositionPatient", "ImageOrientationPatient", "PixelSpacing", "SliceThickness")

ROWS, COLUMNS = 6, 8
"""Unequal, so that a transposed image shows."""


def stored_values(z: int, rows: int = ROWS, columns: int = COLUMNS) -> np.ndarray:
    """(rows, columns) uint16, different at every voxel of a series."""
    return (np.arange(rows * columns).reshape(rows, columns) + 100 * z).astype(np.uint16)


def ct_slice(z: int = 0, **changes: Any) -> FileDataset:
    """One 12-bit slice at z * 2 mm; `changes` overrides attributes, None deletes one, `array` replaces the stored values."""
    array = changes.pop("array", None)
    syntax = changes.pop("syntax", ExplicitVRLittleEndian)
    meta = FileMetaDataset()
    meta.TransferSyntaxUID = UID(syntax)
    meta.MediaStorageSOPClassUID = UID(CT_CLASS)
    meta.MediaStorageSOPInstanceUID = generate_uid(entropy_srcs=["slice", str(z)])
    dataset = FileDataset("", {}, file_meta=meta, preamble=b"\0" * 128)
    values = stored_values(z) if array is None else array
    attributes: dict[str, Any] = {
        "SOPClassUID": CT_CLASS,
        "SOPInstanceUID": meta.MediaStorageSOPInstanceUID,
        "Modality": "CT",
        "ImageType": ["ORIGINAL", "PRIMARY", "AXIAL"],
        "PatientID": "Q7731",
        "PatientName": "Muster^Erika",
        "StudyInstanceUID": "1.2.826.1",
        "SeriesInstanceUID": "1.2.826.2",
        "FrameOfReferenceUID": "1.2.826.3",
        "ImagePositionPatient": [-10.0, -20.0, 30.0 + 2.0 * z],
        "ImageOrientationPatient": [1, 0, 0, 0, 1, 0],
        "PixelSpacing": [0.5, 0.75],
        "SliceThickness": 2.0,
        "Rows": values.shape[0],
        "Columns": values.shape[1],
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
    for keyword, value in {**attributes, **changes}.items():
        if value is not None:
            setattr(dataset, keyword, value)
    return dataset


def write_series(folder: Path, slices: Sequence[Dataset]) -> list[Path]:
    """Save the slices as 0.dcm, 1.dcm, ... in the order given."""
    folder.mkdir(parents=True, exist_ok=True)
    paths = [folder / f"{number}.dcm" for number in range(len(slices))]
    for path, dataset in zip(paths, slices, strict=True):
        dataset.save_as(path, enforce_file_format=True)
    return paths


def enhanced(frames: int = 3, **pixel_value: Any) -> FileDataset:
    """A multi-frame object whose geometry and rescale stand only in functional groups; frames lie in reverse order."""
    dataset = ct_slice(0)
    for keyword in (*GEOMETRY, "RescaleSlope", "RescaleIntercept"):
        delattr(dataset, keyword)
    dataset.SOPClassUID = dataset.file_meta.MediaStorageSOPClassUID = UID(ENHANCED_CLASS)
    dataset.NumberOfFrames = frames
    dataset.PixelData = b"".join(stored_values(z).tobytes() for z in reversed(range(frames)))
    shared = Dataset()
    shared.PlaneOrientationSequence = DicomSequence([_item(ImageOrientationPatient=[1, 0, 0, 0, 1, 0])])
    shared.PixelMeasuresSequence = DicomSequence([_item(PixelSpacing=[0.5, 0.75], SliceThickness=2.0)])
    rescale = {"RescaleSlope": "1", "RescaleIntercept": "-1024", "RescaleType": "HU", **pixel_value}
    shared.PixelValueTransformationSequence = DicomSequence([_item(**rescale)])
    dataset.SharedFunctionalGroupsSequence = DicomSequence([shared])
    dataset.PerFrameFunctionalGroupsSequence = DicomSequence([_placed(z) for z in reversed(range(frames))])
    return dataset


def segmentation(planes: Sequence[tuple[int, int, np.ndarray]]) -> FileDataset:
    """A binary SEG object on the slices' grid: (segment number, z, (rows, columns) bool) for each frame."""
    dataset = ct_slice(0, Modality="SEG", BitsAllocated=1, BitsStored=1, HighBit=0, RescaleSlope=None, RescaleIntercept=None)
    for keyword in GEOMETRY:
        delattr(dataset, keyword)
    dataset.SOPClassUID = dataset.file_meta.MediaStorageSOPClassUID = UID("1.2.840.10008.5.1.4.1.1.66.4")
    dataset.SegmentationType = "BINARY"
    dataset.NumberOfFrames = len(planes)
    bits = np.packbits(np.concatenate([plane.ravel() for _, _, plane in planes]), bitorder="little").tobytes()
    dataset.PixelData = bits + b"\0" * (len(bits) % 2)
    shared = Dataset()
    shared.PlaneOrientationSequence = DicomSequence([_item(ImageOrientationPatient=[1, 0, 0, 0, 1, 0])])
    shared.PixelMeasuresSequence = DicomSequence([_item(PixelSpacing=[0.5, 0.75], SpacingBetweenSlices=2.0)])
    dataset.SharedFunctionalGroupsSequence = DicomSequence([shared])
    groups = []
    for number, z, _ in planes:
        group = _placed(z)
        group.SegmentIdentificationSequence = DicomSequence([_item(ReferencedSegmentNumber=number)])
        groups.append(group)
    dataset.PerFrameFunctionalGroupsSequence = DicomSequence(groups)
    return dataset


def write_nifti(path: Path, values: np.ndarray, affine: np.ndarray, **header: Any) -> Path:
    """Save (x, y, z) values with sform and qform set; `header` overrides fields afterwards."""
    image: Any = nib.Nifti1Image(values, affine)
    image.header.set_xyzt_units("mm")
    image.set_sform(affine, 1)
    image.set_qform(affine, 1)
    for field, value in header.items():
        image.header[field] = value
    nib.save(image, path)
    return path


def edited(path: Path, **changes: Any) -> None:
    """Change attributes of a saved file in place."""
    dataset = pydicom.dcmread(path)
    for keyword, value in changes.items():
        setattr(dataset, keyword, value)
    dataset.save_as(path)


def _placed(z: int) -> Dataset:
    group = Dataset()
    group.PlanePositionSequence = DicomSequence([_item(ImagePositionPatient=[-10.0, -20.0, 30.0 + 2.0 * z])])
    return group


def _item(**attributes: Any) -> Dataset:
    item = Dataset()
    for keyword, value in attributes.items():
        setattr(item, keyword, value)
    return item
