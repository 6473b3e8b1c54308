"""`medadv doctor` and `medadv init`, and how the command line answers."""

import re
from pathlib import Path

import pytest
from tests.conftest import draw_pictures
from typer.testing import CliRunner

from medadv.cli.app import app
from medadv.cli.doctor import decoders, disk, handles, libraries, threads
from medadv.cli.init import init
from medadv.common.errors import SpecError
from medadv.datasets.guess import guess
from medadv.spec.reading import load_spec


def test_doctor_names_what_is_wrong(tmp_path: Path) -> None:
    assert handles(256, 4096).state == "trouble"
    assert "ulimit" in handles(256, 4096).advice
    assert handles(4096, 4096).state == "ok"
    assert threads(4, {"OMP_NUM_THREADS": "8"}, 0).state == "trouble"
    assert threads(4, {"OMP_NUM_THREADS": "1"}, 0).state == "ok"
    for decoder in ("pyjpegls", "imagecodecs"):
        assert decoder in decoders(lambda name, gone=decoder: None if name == gone else "1").text
    assert decoders(lambda name: None if name == "pylibjpeg-libjpeg" else "1").state == "ok"
    assert [check.state for check in libraries(lambda name: None if name == "monai" else "1")] == ["ok", "trouble"]
    assert disk(tmp_path)[-1].text.endswith("MB/s written")
    assert not list(tmp_path.iterdir())


def test_init_reads_a_csv_and_writes_a_spec_that_loads(tmp_path: Path) -> None:
    draw_pictures(tmp_path / "data", 4)
    init(tmp_path / "data", tmp_path / "specs" / "mine.yaml", "fundus")
    spec = load_spec(tmp_path / "specs" / "mine.yaml")
    assert (spec.data.layout, spec.data.label, spec.data.group) == ("csv", "grade", "patient")
    assert (tmp_path / "specs" / spec.data.path).resolve() == (tmp_path / "data" / "labels.csv").resolve()
    with pytest.raises(SpecError, match="exists already"):
        init(tmp_path / "data", tmp_path / "specs" / "mine.yaml")


@pytest.mark.parametrize(
    ("files", "layout"),
    [
        ({"a/1.png": "", "b/2.png": ""}, "folders"),
        ({"images/1.jpg": "", "labels/1.txt": "0 0.5 0.5 0.2 0.2"}, "yolo"),
        ({"series/1.dcm": ""}, "dicom"),
        ({"images/1.jpg": "", "images/2.jpg": "", "masks/1.png": "", "masks/2.png": ""}, "folders"),
        ({"ann.json": '{"images": [{"file_name": "1.png"}], "annotations": [], "categories": []}'}, "coco"),
        ({"dataset.json": '{"training": [{"image": "1.nii.gz", "label": "2.nii.gz"}]}'}, "decathlon"),
        ({"train.csv": "id_code,diagnosis\n1,0\n2,3\n", "train_images/1.png": ""}, "csv"),
        ({"read.me": ""}, None),
    ],
)
def test_layouts_are_told_apart(tmp_path: Path, files: dict[str, str], layout: str | None) -> None:
    for name, text in files.items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(text)
    found = guess(tmp_path)
    assert (found and found.layout) == layout
    if layout in ("yolo", "coco"):
        assert found is not None
        assert (found.modality, found.unsure) == ("endoscopy", True)
    if "masks/1.png" in files:
        assert found is not None
        assert (found.task, found.settings) == ("segmentation", {"image": "images/{id}.jpg", "label": "masks/{id}.png"})
    if layout == "csv":
        assert found is not None
        assert found.settings["image"] == "train_images/{id_code}.png"


@pytest.mark.parametrize("verb", ["run", "plan", "report", "doctor", "init", "verify", "reproduce", "export", "compare", "demo"])
def test_help_teaches_by_example(verb: str) -> None:
    answer = CliRunner().invoke(app, [verb, "--help"])
    assert answer.exit_code == 0
    assert "\x1b[" not in answer.output
    assert re.search(rf"Example:\s+medadv\s+{verb}", answer.output)


def test_names_tell_the_modality_through_a_link(tmp_path: Path) -> None:
    (tmp_path / "fundus").mkdir()
    (tmp_path / "fundus/ann.json").write_text('{"images": [{"file_name": "1.png"}], "annotations": [], "categories": []}')
    (tmp_path / "data").symlink_to(tmp_path / "fundus")
    found = guess(tmp_path / "data")
    assert found is not None
    assert (found.modality, found.unsure) == ("fundus", False)
    init(tmp_path / "data", tmp_path / "sure.yaml")
    assert "# ct | fundus" in (tmp_path / "sure.yaml").read_text()
    (tmp_path / "fundus").rename(tmp_path / "pictures")
    init(tmp_path / "pictures", tmp_path / "unsure.yaml")
    assert "modality: endoscopy            # <- ct | fundus" in (tmp_path / "unsure.yaml").read_text()
