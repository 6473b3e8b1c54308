"""CSV and Decathlon lists as people have them: encodings, spreadsheets, names of another system, numbers without a unit."""

import json
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
from tests.conftest import draw_pictures
from tests.datasets.listings import listed, read_all, surveyed, text

from medadv.common.errors import SpecError


@pytest.mark.parametrize(
    ("content", "encoding"),
    [
        ("file;grade\n000.png;0\n001.png;1\n", "utf-8"),
        ("file\tgrade\n000.png\t0\n001.png\t1\n", "utf-16"),
        ("sep=;\r\nfile;grade\r\n000.png;0\r\n001.png;1\r\n;\r\n", "utf-8-sig"),
        (" file , grade \n 000.png , 0 \n001.png\t, 1\n", "utf-8"),
        ('"file","grade"\n".\\000.png","0"\n"001.png ","1"\n', "utf-8"),
    ],
)
def test_csv_as_spreadsheets_write_it(tmp_path: Path, content: str, encoding: str) -> None:
    draw_pictures(tmp_path, 2)
    text(tmp_path / "t.csv", content, encoding)
    found = listed(tmp_path, modality="fundus", task="classification", layout="csv", path="t.csv", label="grade")
    assert [(s.images[0].removeprefix("./"), s.label) for s in found.sources] == [("000.png", 0), ("001.png", 1)]
    assert found.problems == []


def test_two_columns_of_one_name_are_refused(tmp_path: Path) -> None:
    draw_pictures(tmp_path, 1)
    text(tmp_path / "t.csv", "file,grade,grade\n000.png,0,1\n")
    with pytest.raises(SpecError, match="several columns are called 'grade'"):
        listed(tmp_path, modality="fundus", task="classification", layout="csv", path="t.csv", label="grade")


def test_csv_root_and_names_of_another_system(tmp_path: Path) -> None:
    draw_pictures(tmp_path / "pictures/a", 2)
    text(tmp_path / "tables/t.csv", "file,grade\na\\000.png,0\na/001.png,1\n..\\..\\secret.png,1\n")
    found = listed(
        tmp_path, modality="fundus", task="classification", layout="csv", path="tables/t.csv", label="grade", root="pictures"
    )
    assert [s.images for s in found.sources] == [("a/000.png",), ("a/001.png",)]
    assert [p.code for p in found.problems] == ["outside-root"]


def volume(path: Path, values: np.ndarray, affine: np.ndarray | None = None) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    nib.save(nib.Nifti1Image(values, np.diag([-1.0, -1.0, 2.0, 1.0]) if affine is None else affine), path)
    return path


BODY = (np.arange(6 * 5 * 4).reshape(6, 5, 4) - 60).astype(np.int16)


def test_decathlon_lists_of_one_and_root(tmp_path: Path) -> None:
    volume(tmp_path / "d/i.nii.gz", BODY)
    volume(tmp_path / "d/m.nii.gz", (BODY > 0).astype(np.uint8))
    text(tmp_path / "l/dataset.json", json.dumps({"training": [{"image": ["i.nii.gz"], "label": ["m.nii.gz"]}]}), "utf-8-sig")
    (sample,) = read_all(tmp_path, modality="ct", task="segmentation", layout="decathlon", path="l/dataset.json", root="d")
    np.testing.assert_array_equal(sample.label, BODY > 0)
    text(tmp_path / "l/dataset.json", json.dumps({"training": [{"image": ["i.nii.gz", "m.nii.gz"], "label": 1}]}))
    found = listed(tmp_path, modality="ct", task="classification", layout="decathlon", path="l/dataset.json", root="d")
    assert [p.code for p in found.problems] == ["not-found"]


def test_numbers_without_a_unit_are_refused_while_planning(tmp_path: Path) -> None:
    volume(tmp_path / "a/raw.nii.gz", (BODY + 1024).astype(np.uint16))
    volume(tmp_path / "b/hu.nii.gz", BODY)
    data = {"modality": "ct", "task": "classification", "layout": "folders"}
    for preprocess in ({}, {"as": "slices"}):
        seen = surveyed(tmp_path, preprocess=preprocess, **data)
        assert [(p.path, p.code) for p in seen.problems] == [("a/raw.nii.gz", "not-hu")]
        assert len(surveyed(tmp_path, preprocess=preprocess, offset=-1024, **data).problems) == 0
    raw, hu = read_all(tmp_path, offset=-1024, **data)
    np.testing.assert_array_equal(raw.image, hu.image)
