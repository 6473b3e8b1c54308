"""A drawn CT volume as a DICOM series: CT Image Storage, one file per slice, valid without any patient behind it."""

from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from pydicom.dataset import FileDataset, FileMetaDataset
from pydicom.uid import CTImageStorage, ExplicitVRLittleEndian, generate_uid

RESCALE_INTERCEPT = -1024
STUDY_DATE, STUDY_TIME = "20200101", "120000"
"""Fixed, so that the same phantom is the same file on every day."""


def write_dicom_series(
    folder: Path,
    hu: NDArray[np.int16],
    spacing_mm: tuple[float, float, float],
    origin_mm: tuple[float, float, float],
    patient: str,
) -> None:
    """Write `hu`, (x, y, z) in -1024..3071, as axial slices into `folder`.

    spacing_mm: x, y, z.  origin_mm: centre of voxel (0, 0, 0) in DICOM's patient coordinates (x to the left, y to the back,
    z to the head); the axes of the array run along them.  UIDs follow from `patient` alone.
    """
    folder.mkdir(parents=True, exist_ok=True)
    for index in range(hu.shape[2]):
        image = _slice(hu[:, :, index], index, spacing_mm, origin_mm, patient)
        image.save_as(folder / f"IM-{index + 1:04d}.dcm", enforce_file_format=True)


def _uid(*parts: str) -> str:
    return generate_uid(entropy_srcs=["medadv phantom", *parts])


def _slice(
    hu: NDArray[np.int16],
    index: int,
    spacing_mm: tuple[float, float, float],
    origin_mm: tuple[float, float, float],
    patient: str,
) -> FileDataset:
    meta = FileMetaDataset()
    meta.MediaStorageSOPClassUID = CTImageStorage
    meta.MediaStorageSOPInstanceUID = _uid(patient, "image", str(index))
    meta.TransferSyntaxUID = ExplicitVRLittleEndian
    image = FileDataset("", {}, file_meta=meta, preamble=b"\0" * 128)

    image.SOPClassUID, image.SOPInstanceUID = CTImageStorage, meta.MediaStorageSOPInstanceUID
    image.ImageType = ["DERIVED", "SECONDARY", "AXIAL"]  # computed, never acquired
    image.StudyDate, image.StudyTime, image.ContentDate, image.ContentTime = STUDY_DATE, STUDY_TIME, STUDY_DATE, STUDY_TIME
    image.AccessionNumber, image.ReferringPhysicianName = "", ""
    image.Modality, image.Manufacturer, image.ManufacturerModelName = "CT", "medadv", "chest phantom"
    image.StudyDescription, image.SeriesDescription = "Synthetic chest phantom", "Axial"
    image.PatientName, image.PatientID, image.PatientBirthDate, image.PatientSex = "PHANTOM^CHEST", patient, "", ""
    image.PatientIdentityRemoved, image.DeidentificationMethod = "YES", "no patient: drawn by a computer"
    image.BodyPartExamined, image.PatientPosition, image.KVP = "CHEST", "HFS", "120"
    image.SliceThickness = image.SpacingBetweenSlices = str(spacing_mm[2])
    image.StudyInstanceUID, image.SeriesInstanceUID = _uid(patient, "study"), _uid(patient, "series")
    image.FrameOfReferenceUID, image.PositionReferenceIndicator = _uid(patient, "frame"), ""
    image.StudyID, image.SeriesNumber, image.AcquisitionNumber, image.InstanceNumber = "1", 1, 1, index + 1
    position = (origin_mm[0], origin_mm[1], origin_mm[2] + index * spacing_mm[2])
    image.ImagePositionPatient = [f"{coordinate:.6g}" for coordinate in position]
    image.ImageOrientationPatient = [1, 0, 0, 0, 1, 0]
    image.SliceLocation = f"{position[2]:.6g}"

    image.SamplesPerPixel, image.PhotometricInterpretation = 1, "MONOCHROME2"
    image.Columns, image.Rows = hu.shape
    image.PixelSpacing = [str(spacing_mm[1]), str(spacing_mm[0])]  # between rows first
    image.BitsAllocated, image.BitsStored, image.HighBit, image.PixelRepresentation = 16, 12, 11, 0
    image.RescaleSlope, image.RescaleIntercept, image.RescaleType = "1", str(RESCALE_INTERCEPT), "HU"
    image.WindowCenter, image.WindowWidth = ["40", "-600"], ["400", "1500"]
    image.BurnedInAnnotation, image.LossyImageCompression = "NO", "00"
    stored = (hu.T.astype(np.int32) - RESCALE_INTERCEPT).astype("<u2")
    image.PixelData = np.ascontiguousarray(stored).tobytes()
    return image
