"""Damage real inputs in every way that has been seen, and hold each reading against an independent reader.

    python scripts/fuzz_inputs.py [--cases 2000] [--seed 0] [--keep DIR]

Every case must end as `equal` (the same values and geometry as SimpleITK, nibabel or Pillow decode from the damaged file) or
`refused` (an InputError). Anything else is a fault: `unequal`, `accepted` (geometry known to be inconsistent, yet read), `unread`
(the independent reader fails where we do not), `error` (another exception), `crash`, `hang`. Exit code 1 if there is a fault.

Over 300 lines, on purpose: each way to damage a file stands beside the reader that judges it, and the whole can be copied and run alone.
"""

import argparse
import gzip
import multiprocessing
import os
import shutil
import sys
import tempfile
import time
from collections import Counter
from dataclasses import dataclass
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import pydicom
import SimpleITK as sitk
from numpy.random import Generator
from PIL import Image, ImageOps

from medadv.common.errors import SpecError
from medadv.common.files import writable_folder
from medadv_transforms import InputError, read_colour, read_ct_volume

FAULTS = ("unequal", "accepted", "unread", "error", "crash", "hang")
SECONDS = 60
"""A case that takes longer hangs."""

DICOM = ["ct/transfer_syntaxes/*.dcm", "ct/oddities/*.dcm", "ct/luad_slices/*.dcm", "ct/chest_lidc0314_dicom/000183.dcm"]
NIFTI = ["ct/abdomen_3mm/ct.nii.gz", "train/ct/images/luad_000*.nii.gz"]
PICTURES = ["endoscopy/*/images/*", "train/fundus/images/IDRiD_0[0-2]*", "ct/slices_jpg/*.jpg"]

TAG_EDITS: list[tuple[str, Any]] = [
    *((keyword, None) for keyword in ("Rows", "BitsStored", "PixelData", "RescaleSlope", "RescaleIntercept", "PixelSpacing", "Modality")),
    *((keyword, None) for keyword in ("ImagePositionPatient", "ImageOrientationPatient", "PixelRepresentation", "BitsAllocated")),
    *(("Rows", value) for value in (0, 1, 256, 511, 1024, 65535)),
    *(("Columns", value) for value in (0, 511, 513, 65535)),
    *(("BitsStored", value) for value in (0, 8, 11, 15, 17)),
    *(("HighBit", value) for value in (0, 7, 14, 15)),
    *(("BitsAllocated", value) for value in (1, 8, 12, 32)),
    *(("NumberOfFrames", value) for value in ("0", "2", "1000000", "-1")),
    *(("SamplesPerPixel", value) for value in (0, 3)),
    *(("RescaleSlope", value) for value in ("0", "-1", "2", "0.5", "1e30")),
    *(("RescaleIntercept", value) for value in ("0", "-1000.5", "1e300")),
    *(("PixelSpacing", value) for value in (["0", "1"], ["1", "-1"], ["1e-9", "1"], ["0.5", "0.7"])),
    *(("ImageOrientationPatient", value) for value in (["0"] * 6, ["1", "0", "0", "1", "0", "0"], ["0", "1", "0", "0", "0", "-1"])),
    *(("ImagePositionPatient", value) for value in (["1e300", "0", "0"], ["10", "20", "30"])),
    *(("PhotometricInterpretation", value) for value in ("MONOCHROME1", "RGB", "")),
    *(("Modality", value) for value in ("MR", "CT", "OT")),
    ("PixelRepresentation", 0), ("PixelRepresentation", 1), ("RescaleType", "US"), ("BurnedInAnnotation", "YES"),
]  # fmt: skip

NIFTI_EDITS: list[tuple[str, Any]] = [
    ("sform_code", 0), ("qform_code", 0), ("qform_code", 1), ("scl_slope", 2.0), ("scl_slope", np.inf), ("scl_inter", -5.0), ("bitpix", 8),
    ("xyzt_units", 1), ("xyzt_units", 3), ("datatype", 2), ("datatype", 4), ("datatype", 16), ("datatype", 128), ("vox_offset", 0),
    ("vox_offset", 1e9), ("magic", b"ni1"), ("sizeof_hdr", 347), ("dim", (0, 1)), ("dim", (1, 100)), ("dim", (3, 4)), ("dim", (4, 2)),
    ("dim", (1, -5)), ("dim", (1, 32000)), ("pixdim", (1, 9.0)), ("pixdim", (3, 0.0)), ("pixdim", (0, -1.0)), ("srow_x", (0, 7.0)),
    ("srow_x", (1, 0.5)), ("srow_z", (2, np.nan)), ("srow_z", (2, -2.0)), ("quatern_b", 0.7), ("qoffset_x", 50.0),
]  # fmt: skip

SERIES_EDITS = ("none", "shuffle", "intercept", "drop", "repeat", "shift", "tilt", "slope", "turn", "frame", "series", "size", "spacing")
INCONSISTENT = frozenset(SERIES_EDITS[3:])


@dataclass(frozen=True)
class Case:
    """One damaged input.  kind: dicom, series, nifti or picture.  consistent: False where it must be refused."""

    kind: str
    files: tuple[Path, ...]
    mutation: str
    consistent: bool = True


def make_case(data: Path, folder: Path, seed: int, index: int) -> Case:
    """Write the damaged files of case `index` below `folder`; the same arguments give the same bytes."""
    rng = np.random.default_rng([seed, index])
    draw = rng.random()
    if draw < 0.2:
        return _series_case(data, folder, rng)
    kind, patterns = ("dicom", DICOM) if draw < 0.55 else ("nifti", NIFTI) if draw < 0.75 else ("picture", PICTURES)
    sources = sorted(path for pattern in patterns for path in data.glob(pattern))
    source = sources[int(rng.integers(len(sources)))]
    target = folder / source.name
    if kind == "dicom" and rng.random() < 0.5:
        keyword, value = TAG_EDITS[int(rng.integers(len(TAG_EDITS)))]
        dataset = pydicom.dcmread(source)
        _edit_tag(dataset, keyword, value)
        dataset.save_as(target)
        return Case(kind, (target,), f"{keyword}={value}")
    raw = source.read_bytes()
    if kind == "nifti" and rng.random() < 0.8:
        inflated = bytearray(gzip.decompress(raw))
        if rng.random() < 0.6:
            field, value = NIFTI_EDITS[int(rng.integers(len(NIFTI_EDITS)))]
            _edit_nifti(inflated, field, value)
            mutation = f"{field}={value}"
        else:
            inflated, mutation = _damage(inflated, rng, header=348)
        target.write_bytes(gzip.compress(bytes(inflated), 1))
        return Case(kind, (target,), mutation)
    damaged, mutation = _damage(bytearray(raw), rng, header=2048)
    target.write_bytes(bytes(damaged))
    return Case(kind, (target,), mutation)


def judge(case: Case) -> tuple[str, str]:
    """Verdict and detail of one case."""
    try:
        if case.kind == "picture":
            ours: Any = read_colour(case.files[0], modality="endoscopy")
        else:
            ours = read_ct_volume(case.files)
    except InputError as error:
        return "refused", error.code
    except Exception as error:  # whatever it is, it is a fault of ours
        return "error", repr(error)
    if not case.consistent:
        return "accepted", case.mutation
    try:
        reference = {"picture": _picture, "nifti": _nifti}.get(case.kind, _itk)(case.files)
    except Exception as error:
        return "unread", repr(error)[:200]
    values, affine = reference
    if values.shape != ours.image.shape[1:] and case.kind != "picture":
        return "unequal", f"shape {values.shape} {ours.image.shape}"
    if case.kind == "picture":
        return ("equal", "") if np.array_equal(ours.image, values) else ("unequal", "levels")
    expected = np.clip(np.rint(values), -1024, 3071)
    if not np.array_equal(ours.image[0], expected):
        return "unequal", f"{np.count_nonzero(ours.image[0] != expected)} voxels"
    columns = [0, 1, 3] if values.shape[2] == 1 else [0, 1, 2, 3]
    if not np.allclose(ours.affine[:, columns], affine[:, columns], rtol=1e-4, atol=2e-3):
        return "unequal", "affine"
    return "equal", ""


def run_cases(data: Path, indices: range, seed: int, keep: Path | None = None) -> list[tuple[int, Case, str, str]]:
    """Judge the cases in a child process, so that a crash or a hang is a verdict too."""
    results = []
    context = multiprocessing.get_context("spawn")
    child: Any = None
    with tempfile.TemporaryDirectory() as scratch:
        for index in indices:
            folder = Path(scratch, str(index))
            folder.mkdir()
            case = make_case(data, folder, seed, index)
            if child is None:
                ours, theirs = context.Pipe()
                child = context.Process(target=_serve, args=(theirs,), daemon=True)
                child.start()
                theirs.close()
            ours.send(case)
            try:
                verdict, detail = ours.recv() if ours.poll(SECONDS) else ("hang", "")
            except EOFError:
                verdict, detail = "crash", ""
            if verdict in ("hang", "crash"):
                child.kill()
                child.join()
                child = None
            results.append((index, case, verdict, detail))
            if keep is not None and verdict in FAULTS:
                shutil.copytree(folder, keep / f"{index}-{verdict}", dirs_exist_ok=True)
            shutil.rmtree(folder)
        if child is not None:
            ours.send(None)
            child.join()
    return results


def _serve(pipe: Connection) -> None:
    sys.stderr = open(os.devnull, "w")  # noqa: PTH123, SIM115
    sitk.ProcessObject.SetGlobalWarningDisplay(False)
    while (case := pipe.recv()) is not None:
        pipe.send(judge(case))


def _series_case(data: Path, folder: Path, rng: Generator) -> Case:
    three = rng.random() < 0.5
    sources = sorted(data.glob("ct/abdomen_3slice_dicom/0*.dcm" if three else "ct/upper_abdomen_dicom_j2k/CT*"))
    if not three:
        start = int(rng.integers(len(sources) - 4))
        sources = sources[start : start + 4]
    edit = SERIES_EDITS[int(rng.integers(len(SERIES_EDITS)))]
    datasets = [pydicom.dcmread(path) for path in sources]
    for dataset in datasets:
        # ITK groups files by this; the four slices carry none.
        dataset.SeriesInstanceUID = "1.2.3"
    middle = datasets[1 + int(rng.integers(len(datasets) - 2))]
    x, y, z = (float(value) for value in middle.ImagePositionPatient)
    if edit == "drop" and three:
        # Three slices with one gone are two, whose distance nothing contradicts: widen one gap instead.
        datasets[2].ImagePositionPatient = [x, y, z - 2.0 if datasets[2].ImagePositionPatient[2] < z else z + 2.0]
    elif edit == "drop":
        datasets.remove(middle)
    elif edit == "repeat":
        datasets.append(middle)
    elif edit == "shift":
        middle.ImagePositionPatient = [x, y, round(z + float(rng.choice([-0.4, 0.3, 0.45])), 3)]
    elif edit == "tilt":
        for number, dataset in enumerate(datasets):
            position = [float(value) for value in dataset.ImagePositionPatient]
            dataset.ImagePositionPatient = [position[0], round(position[1] + 0.4 * number, 3), position[2]]
    elif edit in ("slope", "intercept"):
        setattr(middle, "RescaleSlope" if edit == "slope" else "RescaleIntercept", "2" if edit == "slope" else "-1000")
    elif edit == "turn":
        middle.ImageOrientationPatient = [-1, 0, 0, 0, -1, 0]
    elif edit == "frame":
        middle.FrameOfReferenceUID = "1.2.3.4"
    elif edit == "series":
        middle.SeriesInstanceUID = "1.2.3.5"
    elif edit == "size":
        middle.Rows = 256
    elif edit == "spacing":
        middle.PixelSpacing = [1.5, 1.5]
    order = rng.permutation(len(datasets)) if edit == "shuffle" else np.arange(len(datasets))
    files = []
    for name, which in enumerate(order):
        files.append(folder / f"{name}.dcm")
        datasets[which].save_as(files[-1])
    return Case("series", tuple(files), edit, consistent=edit not in INCONSISTENT)


def _edit_tag(dataset: pydicom.Dataset, keyword: str, value: Any) -> None:
    if value is None:
        if keyword in dataset:
            del dataset[keyword]
    else:
        with pydicom.config.disable_value_validation():
            setattr(dataset, keyword, value)


def _edit_nifti(data: bytearray, field: str, value: Any) -> None:
    header = nib.Nifti1Header(bytes(data[:348]), check=False)
    if isinstance(value, tuple):
        changed = header[field].copy()
        changed[value[0]] = value[1]
        header[field] = changed
    else:
        header[field] = value
    data[:348] = header.binaryblock


def _damage(data: bytearray, rng: Generator, header: int) -> tuple[bytearray, str]:
    kind = str(rng.choice(["flip", "flip-header", "truncate", "zeros", "delete", "insert", "swap"]))
    size = len(data)
    reach = min(header, size) if kind == "flip-header" else size
    where = int(rng.integers(reach))
    length = int(rng.integers(1, 64))
    if kind.startswith("flip"):
        for place in rng.integers(reach, size=int(rng.integers(1, 5))):
            data[place] ^= 1 << int(rng.integers(8))
    elif kind == "truncate":
        del data[where:]
    elif kind == "zeros":
        data[where : where + length] = bytes(len(data[where : where + length]))
    elif kind == "delete":
        del data[where : where + length]
    elif kind == "insert":
        data[where:where] = rng.bytes(length)
    else:
        other = int(rng.integers(reach))
        data[where : where + length], data[other : other + length] = data[other : other + length], data[where : where + length]
    return data[:size] if kind != "insert" else data, kind


def _itk(files: tuple[Path, ...]) -> tuple[np.ndarray, np.ndarray]:
    names = [str(path) for path in files]
    if len(files) > 1:
        names = list(sitk.ImageSeriesReader.GetGDCMSeriesFileNames(str(files[0].parent), "1.2.3"))
        return _array(sitk.ReadImage(names))
    return _array(sitk.ReadImage(names[0]))


def _array(image: sitk.Image) -> tuple[np.ndarray, np.ndarray]:
    """(x, y, z) values and the affine to RAS+ mm."""
    values = sitk.GetArrayFromImage(image).T
    values = values[..., None] if values.ndim == 2 else values
    affine = np.eye(4)
    rank = image.GetDimension()
    affine[:rank, :rank] = np.array(image.GetDirection()).reshape(rank, rank) * image.GetSpacing()
    affine[:rank, 3] = image.GetOrigin()
    return values, np.diag([-1, -1, 1, 1]) @ affine


def _nifti(files: tuple[Path, ...]) -> tuple[np.ndarray, np.ndarray]:
    image: Any = nib.load(files[0])
    values = np.asarray(image.dataobj, np.float64)
    values = values.reshape(*values.shape, *([1] * (3 - values.ndim)))[..., :1] if values.ndim < 3 else values.reshape(values.shape[:3])
    _, geometry = _array(sitk.ReadImage(str(files[0])))
    if not np.allclose(geometry, image.affine, rtol=1e-4, atol=2e-3):
        raise ValueError("SimpleITK and nibabel disagree about the geometry")
    return values, image.affine


def _picture(files: tuple[Path, ...]) -> tuple[np.ndarray, np.ndarray]:
    with Image.open(files[0]) as image:
        return np.asarray(ImageOps.exif_transpose(image).convert("RGB")).transpose(2, 0, 1), np.eye(4)


def main() -> int:
    """Run the long form and print a table of verdicts."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--cases", type=int, default=2000)
    parser.add_argument("--first", type=int, default=0)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--keep", type=Path, help="copy the inputs of faults there")
    arguments = parser.parse_args()
    try:
        if arguments.keep:
            writable_folder(arguments.keep)
    except SpecError as error:
        parser.error(str(error))
    root = Path(os.environ.get("MEDADV_DATA", Path(__file__).parents[2] / "shared" / "data"))
    if not root.is_dir():
        print("no real inputs: set MEDADV_DATA", file=sys.stderr)
        return 2
    start = time.perf_counter()
    results = run_cases(root, range(arguments.first, arguments.first + arguments.cases), arguments.seed, arguments.keep)
    counts = Counter((case.kind, verdict) for _, case, verdict, _ in results)
    for (kind, verdict), count in sorted(counts.items()):
        print(f"{kind:8} {verdict:8} {count:5}")
    faults = [(index, case.kind, case.files[0].name, case.mutation, verdict, detail) for index, case, verdict, detail in results
              if verdict in FAULTS]  # fmt: skip
    for fault in faults:
        print(*fault)
    print(f"{len(results)} cases, {len(faults)} faults, {time.perf_counter() - start:.0f} s, seed {arguments.seed}")
    return 1 if faults else 0


if __name__ == "__main__":
    sys.exit(main())
