"""DICOM says what is known and no more; its UIDs follow from what they name; the standard's validator finds no error that is ours."""

import shutil
import subprocess
from dataclasses import replace
from itertools import combinations
from pathlib import Path
from typing import Any

import numpy as np
import pydicom
import pytest
from tests.conftest import quiet
from tests.export.export_cases import AFFINE, dicom_corpus, headers, manifest_of

from medadv.corpus.folder import Workspace
from medadv.corpus.manifest import read_manifest
from medadv.export.dicom import write_dicom
from medadv.export.export import Request, export
from medadv.export.item import Item

MANIFEST = manifest_of({"pgd-20": ("pgd", 20.0), "smia-4": ("smia", 4.0)})

KINDS = ["volume", "slice", "colour photograph", "grey picture", "volume without geometry"]


def image_of(kind: str, attack: str | None, facts: dict[str, Any] | None = None, seed: int = 0) -> Item:
    draw = np.random.default_rng(seed)
    name = {"slice": "a" * 32 + "-0007"}.get(kind, "a" * 32)
    if kind in ("volume", "slice"):
        shape, axes = ((1, 12, 9, 3), "xyz") if kind == "volume" else ((1, 12, 9), "xy")
        return Item(name, attack, draw.integers(-1024, 3072, shape, np.int16), "hu", axes, np.int64(0), AFFINE, facts or {})
    if kind == "volume without geometry":
        return Item(name, attack, draw.integers(-1024, 3072, (1, 12, 9), np.int16), "hu", "xy", np.int64(0), None, facts or {})
    channels = 3 if kind == "colour photograph" else 1
    return Item(name, attack, draw.integers(0, 256, (channels, 9, 11), np.uint8), "level8", "yx", np.int64(0), None, facts or {})


def written(folder: Path, item: Item, grid: str = "stored", manifest: Any = MANIFEST) -> pydicom.Dataset:
    folder.mkdir(exist_ok=True)
    return pydicom.dcmread(write_dicom(folder, item, manifest, patient="f" * 32, grid=grid)[0])


@pytest.mark.parametrize("attack", [None, "smia-4"])
@pytest.mark.parametrize("kind", KINDS)
def test_of_pixels_that_nobody_checked_nothing_is_said(kind: str, attack: str | None, tmp_path: Path) -> None:
    found = written(tmp_path, image_of(kind, attack, {"format": "PNG"}))
    unsaid = ("BurnedInAnnotation", "PatientIdentityRemoved", "DeidentificationMethod", "LossyImageCompression")
    assert not [keyword for keyword in unsaid if keyword in found]
    assert "names nobody" in found.PatientComments
    assert "nobody looked for annotation burnt into them" in found.PatientComments
    # A clean copy may show a patient: neither its name nor a flag calls it synthetic.
    assert ("SYNTHETIC" in str(found.PatientName), found.get((0x0008, 0x001C)) is None) == (False, attack is None)


@pytest.mark.parametrize(
    ("facts", "expected"),
    [
        ({"burned_in_annotation": "NO"}, {"BurnedInAnnotation": "NO"}),
        ({"burned_in_annotation": "YES"}, {"BurnedInAnnotation": "YES"}),
        ({"format": "JPEG"}, {"LossyImageCompression": "01", "LossyImageCompressionMethod": "ISO_10918_1"}),
        ({"transfer_syntaxes": ["1.2.840.10008.1.2.4.51"]}, {"LossyImageCompression": "01", "LossyImageCompressionMethod": "ISO_10918_1"}),
        ({"transfer_syntaxes": ["1.2.840.10008.1.2.4.70"]}, {}),
        ({"lossy_image_compression": "00"}, {"LossyImageCompression": "00"}),
        ({"lossy_image_compression": "01"}, {"LossyImageCompression": "01"}),
        ({"format": "TIFF"}, {}),
    ],
)
def test_what_the_source_told_is_repeated(facts: dict[str, Any], expected: dict[str, str], tmp_path: Path) -> None:
    found = written(tmp_path, image_of("volume", None, facts))
    told = ("BurnedInAnnotation", "LossyImageCompression", "LossyImageCompressionMethod")
    assert {keyword: found[keyword].value for keyword in told if keyword in found} == expected
    if "burned_in_annotation" in facts:
        assert f"said {facts['burned_in_annotation']} of annotation" in found.PatientComments


def test_the_sources_header_comes_through_the_receipt(ct_series: Path, tmp_path: Path) -> None:
    (entry,) = read_manifest(Workspace(ct_series)).shards
    receipt, _ = entry.receipt(ct_series)
    assert receipt is not None
    said = [{key: r.facts.get(key) for key in ("burned_in_annotation", "lossy_image_compression")} for r in receipt.records]
    assert said == [{"burned_in_annotation": "NO", "lossy_image_compression": "00"}] * 4
    export(ct_series, Request("dicom", tmp_path / "out", clean=True), quiet)
    found = headers(tmp_path / "out")
    assert [(d.BurnedInAnnotation, d.LossyImageCompression) for d in found.values()] == [("NO", "00")] * 8


def test_a_header_that_says_nothing_is_not_known(ct_slices: Path, tmp_path: Path) -> None:
    silent = dicom_corpus(tmp_path / "made", 3, LossyImageCompression="JANE DOE")
    for name, corpus in (("dicom", silent), ("nifti", ct_slices)):
        export(corpus, Request("dicom", tmp_path / name), quiet)
        found = headers(tmp_path / name).values()
        assert found
        assert not [d for d in found if "BurnedInAnnotation" in d or "LossyImageCompression" in d]


def test_slices_of_a_series_are_one_patient_study_frame_of_reference_and_series(ct_slices: Path, tmp_path: Path) -> None:
    for attack, clean in (("pgd-20", True), ("pgd-90", False)):
        export(ct_slices, Request("dicom", tmp_path / attack, attack, clean=clean), quiet)
    found = list(headers(tmp_path).values())
    assert len(found) == 2 * 4 * 3
    for shared in ("PatientID", "StudyInstanceUID", "FrameOfReferenceUID", "StudyID"):
        assert len({d[shared].value for d in found}) == 2, shared
    for study in {d.StudyInstanceUID for d in found}:
        own = [d for d in found if d.StudyInstanceUID == study]
        assert len({(d.PatientID, d.FrameOfReferenceUID) for d in own}) == 1
        series = {d.SeriesInstanceUID: {e.SeriesNumber for e in own if e.SeriesInstanceUID == d.SeriesInstanceUID} for d in own}
        assert sorted(series.values(), key=min) == [{1}, {2}, {3}]
        assert sorted((d.SeriesNumber, d.InstanceNumber) for d in own) == [(s, i) for s in (1, 2, 3) for i in (1, 2, 3, 4)]
    assert len({d.SOPInstanceUID for d in found}) == len(found)
    # The folder is the series as other software takes it: one file a slice.
    assert sorted(len(list(folder.iterdir())) for folder in (tmp_path / "pgd-20").iterdir() if folder.is_dir()) == [4] * 4


def test_the_group_is_the_patient(ct_series: Path, tiny_corpus: Path, tmp_path: Path) -> None:
    from medadv.training.dataset import CorpusDataset

    for corpus, folder in ((ct_series, "series"), (tiny_corpus, "photographs")):
        export(corpus, Request("dicom", tmp_path / folder), quiet)
        groups = {item["group_id"] for item in map(CorpusDataset(corpus).__getitem__, range(4))}
        patients = {d.PatientID for d in headers(tmp_path / folder).values()}
        assert groups <= patients
        assert len(patients) == (1 if folder == "series" else 10)


def test_an_export_made_again_is_the_same_to_the_byte(ct_volumes: Path, tmp_path: Path) -> None:
    for name in ("first", "second"):
        export(ct_volumes, Request("dicom", tmp_path / name, clean=True), quiet)
    first, second = ({p.relative_to(tmp_path / n): p.read_bytes() for p in (tmp_path / n).rglob("*.dcm")} for n in ("first", "second"))
    assert len(first) == 16
    assert first == second


def test_uids_follow_from_what_they_name(tmp_path: Path) -> None:
    item = image_of("slice", "smia-4")
    same = {"study": "StudyInstanceUID", "frame": "FrameOfReferenceUID", "series": "SeriesInstanceUID", "instance": "SOPInstanceUID"}
    cases = {
        "base": written(tmp_path / "0", item),
        "clean": written(tmp_path / "1", image_of("slice", None)),
        "attack": written(tmp_path / "2", image_of("slice", "pgd-20")),
        "grid": written(tmp_path / "3", item, "native"),
        "lossy": written(tmp_path / "4", item, "native lossy"),
        "pixels": written(tmp_path / "5", image_of("slice", "smia-4", seed=1)),
        "slice": written(tmp_path / "6", replace(item, sample="a" * 32 + "-0008")),
        "corpus": written(tmp_path / "7", item, manifest=manifest_of({"pgd-20": ("pgd", 20.0), "smia-4": ("smia", 4.0)}, root="d" * 64)),
    }
    base = {part: cases["base"][keyword].value for part, keyword in same.items()}
    equal = {name: {part for part, keyword in same.items() if d[keyword].value == base[part]} for name, d in cases.items()}
    assert equal == {
        "base": {"study", "frame", "series", "instance"},
        "clean": {"study", "frame"},
        "attack": {"study", "frame"},
        "grid": {"study", "frame"},
        "lossy": {"study", "frame"},
        "pixels": {"study", "frame", "series"},
        "slice": {"study", "frame", "series"},
        "corpus": set(),
    }
    assert all(a.SOPInstanceUID != b.SOPInstanceUID for a, b in combinations(cases.values(), 2))
    numbers = [cases[name].SeriesNumber for name in ("clean", "attack", "base", "grid", "lossy")]
    assert len(set(numbers)) == len(numbers)
    assert all(pydicom.uid.UID(d[keyword].value).is_valid for d in cases.values() for keyword in same.values() if keyword in d)


WRONGLY_NAMED = {
    # Message -> attribute. PS3.6 lists it (table 6-1), PS3.3 has it in the SOP Common Module (C.12.1, table C.12-1): the validator, of June
    # 2022 in Debian 12, is older than the attribute.
    "Error - Attribute with an even group number is not a recognized standard attribute - (0x0008,0x001c)  ? ": "SyntheticData",
}

needs_validator = pytest.mark.skipif(shutil.which("dciodvfy") is None, reason="no dciodvfy: install Debian's dicom3tools")


def errors(path: Path) -> list[str]:
    """What dciodvfy calls an error in a file, but for what it names wrongly. It answers on standard error."""
    answer = subprocess.run(["dciodvfy", str(path)], capture_output=True, text=True, check=False).stderr
    assert "CTImage" in answer or "SCImage" in answer, answer
    return [line for line in answer.splitlines() if line.startswith("Error") and line not in WRONGLY_NAMED]


@needs_validator
@pytest.mark.parametrize("attack", [None, "smia-4"])
@pytest.mark.parametrize("kind", KINDS)
def test_dciodvfy_finds_no_error(kind: str, attack: str | None, tmp_path: Path) -> None:
    facts = {"format": "JPEG"} if "photograph" in kind else {"burned_in_annotation": "NO", "lossy_image_compression": "00"}
    for number, known in enumerate(({}, facts)):
        folder = tmp_path / str(number)
        folder.mkdir()
        for path in write_dicom(folder, image_of(kind, attack, known), MANIFEST, patient="f" * 32):
            assert errors(path) == []


@needs_validator
def test_dciodvfy_names_an_error_where_there_is_one(tmp_path: Path) -> None:
    (tmp_path / "out").mkdir()
    path = write_dicom(tmp_path / "out", image_of("slice", None), MANIFEST, patient="f" * 32)[0]
    dataset = pydicom.dcmread(path)
    dataset.ImageType = dataset.ImageType[:2]
    dataset.save_as(path)
    assert errors(path) == ["Error - A value is required for value 3 in CT Images - attribute <ImageType>"]


@needs_validator
@pytest.mark.parametrize("grid", ["stored", "native"])
@pytest.mark.parametrize("which", ["ct_slices", "ct_volumes", "ct_series", "tiny_corpus"])
def test_whole_exports_are_valid_and_consistent(which: str, grid: str, request: pytest.FixtureRequest, tmp_path: Path) -> None:
    export(request.getfixturevalue(which), Request("dicom", tmp_path / "out", clean=True, grid=grid), quiet)
    paths = [str(path) for path in sorted((tmp_path / "out").rglob("*.dcm"))]
    assert paths
    assert [line for path in paths for line in errors(Path(path))] == []
    # Patients, studies and series of all files together: dcentvfy says nothing where they agree.
    together = subprocess.run(["dcentvfy", *paths], capture_output=True, text=True, check=False)
    assert [line for line in together.stderr.splitlines() if "Error" in line] == []
