"""DICOM: CT series or secondary captures with new UIDs, derived, synthetic and without anything of a patient."""

from pathlib import Path
from typing import Any

import numpy as np
from pydicom.dataset import Dataset, FileDataset, FileMetaDataset
from pydicom.uid import UID, ExplicitVRLittleEndian, generate_uid

from medadv.corpus.manifest import Manifest
from medadv.datasets.labels import Array
from medadv.export.item import Item
from medadv.export.marks import CLEAN_SERIES, MANUFACTURER, SERIES, derivation

CT_IMAGE = UID("1.2.840.10008.5.1.4.1.1.2")
SECONDARY_CAPTURE = UID("1.2.840.10008.5.1.4.1.1.7")
# DICOM's world is left-posterior-superior, the affine's right-anterior-superior.
LPS = np.diag([-1.0, -1.0, 1.0])


def write_dicom(folder: Path, item: Item, manifest: Manifest, uids: dict[str, UID]) -> list[Path]:
    """Write one image as a series, a file a slice; returns the files.

    uids: study and frame of reference by sample, filled here, so that clean and adversarial series of a sample belong together.
    """
    series = folder / item.stem
    series.mkdir()
    study = uids.setdefault(item.sample, generate_uid())
    frame = uids.setdefault(f"{item.sample}/frame", generate_uid())
    text = derivation(manifest, item.attack, item.sample)
    series_uid = generate_uid()
    volumetric = item.unit == "hu" and item.affine is not None
    slices = list(_slices(item)) if volumetric else [(np.moveaxis(item.image, 0, -1), None)]
    files = []
    for number, (pixels, place) in enumerate(slices, start=1):
        dataset = _base(item, text, number, study, series_uid)
        if volumetric:
            assert place is not None
            _ct(dataset, pixels, place, frame)
        else:
            _capture(dataset, pixels)
        path = series / f"{number:04d}.dcm"
        dataset.save_as(path, enforce_file_format=True)
        files.append(path)
    return files


def _slices(item: Item) -> Any:
    """(pixels (rows, columns), (origin, along columns, along rows, spacing)) of each slice: columns run along x, rows along y."""
    assert item.affine is not None
    affine = LPS @ np.asarray(item.affine, np.float64)[:3]
    volume = item.image[0] if item.image.ndim == 4 else item.image[0][..., None]
    steps = np.linalg.norm(affine[:, :3], axis=0)
    for z in range(volume.shape[2]):
        origin = affine[:, 3] + z * affine[:, 2]
        yield volume[:, :, z].T, (origin, affine[:, 0] / steps[0], affine[:, 1] / steps[1], steps)


def _base(item: Item, text: str, number: int, study: UID, series: UID) -> FileDataset:
    meta = FileMetaDataset()
    meta.MediaStorageSOPClassUID = CT_IMAGE if item.unit == "hu" and item.affine is not None else SECONDARY_CAPTURE
    meta.MediaStorageSOPInstanceUID = generate_uid()
    meta.TransferSyntaxUID = ExplicitVRLittleEndian
    dataset = FileDataset("", {}, file_meta=meta, preamble=b"\0" * 128)
    dataset.SOPClassUID, dataset.SOPInstanceUID = meta.MediaStorageSOPClassUID, meta.MediaStorageSOPInstanceUID
    dataset.StudyInstanceUID, dataset.SeriesInstanceUID = study, series
    dataset.ImageType = ["DERIVED", "SECONDARY"]
    dataset.DerivationDescription = text
    # Both the clean copy and its perturbation went through software; only the perturbed one shows what no scanner saw.
    dataset.add_new((0x0008, 0x001C), "CS", "NO" if item.attack is None else "YES")
    dataset.SeriesDescription = CLEAN_SERIES if item.attack is None else SERIES
    dataset.Manufacturer = MANUFACTURER
    dataset.PatientName, dataset.PatientID = "TEST^SYNTHETIC", item.sample
    dataset.PatientBirthDate = dataset.PatientSex = dataset.StudyDate = dataset.StudyTime = dataset.AccessionNumber = ""
    dataset.StudyID = dataset.ReferringPhysicianName = dataset.PositionReferenceIndicator = dataset.PatientPosition = ""
    dataset.PatientIdentityRemoved, dataset.BurnedInAnnotation = "YES", "NO"
    dataset.DeidentificationMethod = "never held patient data: written from an adversarial corpus"
    dataset.LongitudinalTemporalInformationModified = "REMOVED"
    dataset.SeriesNumber, dataset.InstanceNumber = 1, number
    dataset.LossyImageCompression = "00"
    return dataset


def _ct(dataset: Dataset, pixels: Array, place: tuple[Array, Array, Array, Array], frame: UID) -> None:
    origin, along_columns, along_rows, steps = place
    dataset.Modality = "CT"
    dataset.FrameOfReferenceUID = frame
    dataset.ImagePositionPatient = [_decimal(v) for v in origin]
    dataset.ImageOrientationPatient = [_decimal(v) for v in (*along_columns, *along_rows)]
    dataset.PixelSpacing = [_decimal(steps[1]), _decimal(steps[0])]
    dataset.SliceThickness = _decimal(steps[2])
    dataset.RescaleIntercept, dataset.RescaleSlope, dataset.RescaleType = "0", "1", "HU"
    dataset.KVP = dataset.AcquisitionNumber = ""
    _pixels(dataset, pixels, "MONOCHROME2", signed=True)


def _capture(dataset: Dataset, pixels: Array) -> None:
    dataset.Modality = "OT"
    dataset.ConversionType = "SYN"
    dataset.PatientOrientation = ""
    colour = pixels.shape[-1] == 3
    if colour:
        dataset.PlanarConfiguration = 0
    signed = pixels.dtype == np.int16
    _pixels(dataset, pixels if colour else pixels[..., 0], "RGB" if colour else "MONOCHROME2", signed=signed)


def _pixels(dataset: Dataset, pixels: Array, photometric: str, *, signed: bool) -> None:
    bits = pixels.dtype.itemsize * 8
    dataset.SamplesPerPixel = pixels.shape[2] if pixels.ndim == 3 else 1
    dataset.PhotometricInterpretation = photometric
    dataset.Rows, dataset.Columns = pixels.shape[:2]
    dataset.BitsAllocated = dataset.BitsStored = bits
    dataset.HighBit = bits - 1
    dataset.PixelRepresentation = int(signed)
    data = np.ascontiguousarray(pixels, pixels.dtype.newbyteorder("<")).tobytes()
    dataset.PixelData = data + b"\0" * (len(data) % 2)
    dataset["PixelData"].VR = "OW" if bits == 16 else "OB"


def _decimal(value: Any) -> str:
    """A decimal string of at most 16 characters, as exact as fits."""
    number = float(value)
    digits = next((f"{number:.{n}g}" for n in range(16, 3, -1) if len(f"{number:.{n}g}") <= 16), f"{number:.4g}")
    return digits if digits != "-0" else "0"
