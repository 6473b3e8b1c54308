"""DICOM: CT series or secondary captures, derived, with UIDs of their own and nobody's header; of the pixels only what is known."""

from pathlib import Path
from typing import Any

import numpy as np
from pydicom.dataset import Dataset, FileDataset, FileMetaDataset
from pydicom.uid import UID, ExplicitVRLittleEndian

from medadv.common.hashing import hash_array
from medadv.corpus.manifest import Manifest
from medadv.datasets.labels import Array
from medadv.export.item import Item
from medadv.export.marks import CLEAN_SERIES, MANUFACTURER, PATIENT, SERIES, about_patient, derivation
from medadv.export.names import image_file, series_of
from medadv.export.uids import uid_of

CT_IMAGE = UID("1.2.840.10008.5.1.4.1.1.2")
SECONDARY_CAPTURE = UID("1.2.840.10008.5.1.4.1.1.7")
# DICOM's world is left-posterior-superior, the affine's right-anterior-superior.
LPS = np.diag([-1.0, -1.0, 1.0])


GRIDS = ("stored", "native", "native lossy")
"""Grids of an export, in the order of their series numbers."""

JPEG_BASELINE = {"1.2.840.10008.1.2.4.50", "1.2.840.10008.1.2.4.51"}
"""JPEG transfer syntaxes that lose something whatever their settings."""


def write_dicom(folder: Path, item: Item, manifest: Manifest, *, patient: str, grid: str = "stored") -> list[Path]:
    """Write one image, a file a slice, into the folder of its series; returns the files.

    patient: id of the patient that the study is of.  grid: one of GRIDS. Slices of one source series share study, frame of reference and
    series; clean and adversarial images of a sample share study and frame of reference.
    """
    volumetric = item.unit == "hu" and item.affine is not None
    slices = list(_slices(item)) if volumetric else [(np.moveaxis(item.image, 0, -1), None)]
    series, index = series_of(item.sample)
    files = []
    for number, (pixels, place) in enumerate(slices, start=1 if index is None else index + 1):
        dataset = _base(item, manifest, series, number, grid, hash_array(pixels))
        dataset.PatientID = patient
        if volumetric:
            assert place is not None
            _ct(dataset, pixels, place, uid_of("frame of reference", manifest.content_root, series))
        else:
            _capture(dataset, pixels, synthetic=item.attack is not None)
        path = folder / image_file("dicom", item.sample, item.attack, number)
        path.parent.mkdir(exist_ok=True)
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


def _base(item: Item, manifest: Manifest, series: str, number: int, grid: str, pixels: str) -> FileDataset:
    """What all images have in common.  number: of the slice, counted from 1.  pixels: their hash."""
    corpus = manifest.content_root
    meta = FileMetaDataset()
    meta.MediaStorageSOPClassUID = CT_IMAGE if item.unit == "hu" and item.affine is not None else SECONDARY_CAPTURE
    series_uid = uid_of("series", corpus, series, item.attack, grid)
    meta.MediaStorageSOPInstanceUID = uid_of("instance", series_uid, number, pixels)
    meta.TransferSyntaxUID = ExplicitVRLittleEndian
    dataset = FileDataset("", {}, file_meta=meta, preamble=b"\0" * 128)
    dataset.SOPClassUID, dataset.SOPInstanceUID = meta.MediaStorageSOPClassUID, meta.MediaStorageSOPInstanceUID
    dataset.StudyInstanceUID, dataset.SeriesInstanceUID = uid_of("study", corpus, series), series_uid
    dataset.ImageType = ["DERIVED", "SECONDARY"]
    dataset.DerivationDescription = derivation(manifest, item.attack, item.sample)
    if item.attack is not None:
        # Of a clean copy nobody knows whether a scanner made it or a program.
        dataset.add_new((0x0008, 0x001C), "CS", "YES")
    dataset.SeriesDescription = CLEAN_SERIES if item.attack is None else SERIES
    dataset.Manufacturer = MANUFACTURER
    dataset.PatientName = PATIENT
    dataset.PatientBirthDate = dataset.PatientSex = dataset.StudyDate = dataset.StudyTime = dataset.AccessionNumber = ""
    dataset.ReferringPhysicianName = dataset.Laterality = ""
    dataset.StudyID = series[:16]
    # The clean series, then one an attack, on each grid.
    attacks = [None, *manifest.attacks]
    dataset.SeriesNumber = 1 + attacks.index(item.attack) + len(attacks) * GRIDS.index(grid)
    dataset.InstanceNumber = number
    _history(dataset, item.facts)
    return dataset


def _history(dataset: Dataset, facts: dict[str, Any]) -> None:
    """Burnt-in annotation and lossy compression, as far as the source told.

    PatientIdentityRemoved is left out: the standard lets it speak of the pixels too (PS3.3 C.7.1.1), and nobody looked at them.
    """
    burned_in = facts.get("burned_in_annotation")
    if burned_in is not None:
        dataset.BurnedInAnnotation = burned_in
    dataset.PatientComments = about_patient(burned_in)
    jpeg = facts.get("format") == "JPEG" or not JPEG_BASELINE.isdisjoint(facts.get("transfer_syntaxes", ()))
    lossy = "01" if jpeg else facts.get("lossy_image_compression")
    if lossy is not None:
        dataset.LossyImageCompression = lossy
    if jpeg:
        dataset.LossyImageCompressionMethod = "ISO_10918_1"


def _ct(dataset: Dataset, pixels: Array, place: tuple[Array, Array, Array, Array], frame: UID) -> None:
    origin, along_columns, along_rows, steps = place
    dataset.Modality = "CT"
    dataset.ImageType = [*dataset.ImageType, "AXIAL"]
    dataset.FrameOfReferenceUID = frame
    dataset.PatientPosition = dataset.PositionReferenceIndicator = ""
    dataset.ImagePositionPatient = [_decimal(v) for v in origin]
    dataset.ImageOrientationPatient = [_decimal(v) for v in (*along_columns, *along_rows)]
    dataset.PixelSpacing = [_decimal(steps[1]), _decimal(steps[0])]
    dataset.SliceThickness = _decimal(steps[2])
    dataset.RescaleIntercept, dataset.RescaleSlope, dataset.RescaleType = "0", "1", "HU"
    dataset.KVP = dataset.AcquisitionNumber = ""
    _pixels(dataset, pixels, "MONOCHROME2", signed=True)


def _capture(dataset: Dataset, pixels: Array, *, synthetic: bool) -> None:
    dataset.Modality = "OT"
    dataset.ConversionType = "SYN" if synthetic else "WSD"
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
