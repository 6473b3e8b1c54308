"""What tells samples apart in reports: columns of label files and DICOM keywords, published only where a spec names them."""

import json
from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError
from tests.conftest import draw_pictures
from tests.export.export_cases import dicom_corpus

from medadv.common.errors import SpecError
from medadv.datasets.layouts import list_samples
from medadv.datasets.source import Source
from medadv.report.page import read_report
from medadv.spec.data import DataSettings

CSV = {"modality": "fundus", "task": "classification", "layout": "csv", "path": "labels.csv", "label": "grade"}


def settings(**changes: Any) -> DataSettings:
    return DataSettings.model_validate({**CSV, **changes})


def test_a_column_goes_with_its_sample(tmp_path: Path) -> None:
    draw_pictures(tmp_path, 2)
    (tmp_path / "labels.csv").write_text("file,grade,site,device\n000.png,0,north, A1 \n001.png,1,,B2\n")
    found = list_samples(settings(strata=["device", "site"]), tmp_path).sources
    assert [source.strata for source in found] == [(("device", "A1"), ("site", "north")), (("device", "B2"), ("site", ""))]
    assert [Source.from_dict(json.loads(json.dumps(source.as_dict()))) for source in found] == found
    plain = list_samples(settings(), tmp_path).sources
    assert "strata" not in plain[0].as_dict()


def test_keys_of_coco_images_and_decathlon_records(tmp_path: Path) -> None:
    draw_pictures(tmp_path, 1)
    image = {"id": 1, "file_name": "000.png", "width": 32, "height": 32, "site": "north"}
    document = {"images": [image], "categories": [{"id": 1, "name": "polyp"}]}
    document["annotations"] = [{"id": 1, "image_id": 1, "category_id": 1, "bbox": [2, 2, 9, 9], "area": 81, "iscrowd": 0}]
    (tmp_path / "coco.json").write_text(json.dumps(document))
    coco = {"modality": "endoscopy", "task": "detection", "layout": "coco", "path": "coco.json", "label": None}
    assert list_samples(settings(**coco, strata=["site"]), tmp_path).sources[0].strata == (("site", "north"),)
    (tmp_path / "d.json").write_text(json.dumps({"training": [{"image": "000.png", "label": 1, "kvp": 120}]}))
    decathlon = {"modality": "ct", "layout": "decathlon", "path": "d.json", "label": None}
    assert list_samples(settings(**decathlon, strata=["kvp"]), tmp_path).sources[0].strata == (("kvp", "120"),)


@pytest.mark.parametrize(("site", "told"), [("x" * 65, "is no text of at most 64 characters"), (None, "names 'site', which is not there")])
def test_what_is_no_short_text_is_refused(tmp_path: Path, site: str | None, told: str) -> None:
    draw_pictures(tmp_path, 1)
    (tmp_path / "labels.csv").write_text("file,grade\n000.png,0\n" if site is None else f"file,grade,site\n000.png,0,{site}\n")
    with pytest.raises(SpecError, match=told):
        list_samples(settings(strata=["site"]), tmp_path)


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        ({"group": "patient", "strata": ["patient"]}, "kept secret"),
        ({"layout": "folders", "label": None, "strata": ["site"]}, "says no more of its images"),
        ({"layout": "dicom", "modality": "ct", "label": "none", "strata": ["PatientName"]}, "'PatientName' is none of Manufacturer"),
        ({"strata": []}, "at least 1 item"),
    ],
)
def test_specs_that_name_what_may_not_be_named(changes: dict[str, Any], told: str) -> None:
    with pytest.raises(ValidationError, match=told):
        settings(**changes)


def test_dicom_headers_say_the_device(tmp_path: Path) -> None:
    """From the header to the receipts, and to the report; without `strata` it stays where it is."""
    said = {"ManufacturerModelName": "Scan 9", "KVP": "120", "ConvolutionKernel": "Br38f\\3"}
    corpus = dicom_corpus(tmp_path, 2, strata=list(said), **said)
    told = {parting.by: [(part.name, part.samples) for part in parting.parts] for parting in read_report(corpus).population.partings}
    assert told["ManufacturerModelName"] == [("Scan 9", 4)]
    assert (told["KVP"], told["ConvolutionKernel"]) == ([("120", 4)], [("Br38f/3", 4)])
