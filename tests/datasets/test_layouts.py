"""Each layout against a folder written by hand, and against label files that nobody would write."""

import csv
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image
from tests.conftest import draw_pictures
from tests.strategies import JSON

from medadv.common.errors import MedadvError, SpecError
from medadv.datasets.file_hashes import FileHashes
from medadv.datasets.layouts import list_samples
from medadv.datasets.reader import Reader
from medadv.datasets.source import Listing
from medadv.prepare.survey import survey
from medadv.spec.data import DataSettings, PreprocessSettings
from medadv.spec.reading import parse_spec


def listed(folder: Path, **data: Any) -> Listing:
    return list_samples(DataSettings.model_validate({"modality": "fundus", "task": "classification", "path": ".", **data}), folder)


def test_csv_takes_names_templates_classes_and_masks(tmp_path: Path) -> None:
    draw_pictures(tmp_path, 3)
    (tmp_path / "t.csv").write_text("id,stage,mask\n000,mild,001.png\n001,severe,002.png\n002,,000.png\n")
    found = listed(tmp_path, layout="csv", path="t.csv", label="stage", image="{id}.png", classes=["mild", "severe"])
    assert [(s.images, s.label) for s in found.sources] == [(("000.png",), 0), (("001.png",), 1)]
    assert [p.code for p in found.problems] == ["missing-label"]
    masks = listed(tmp_path, layout="csv", path="t.csv", label="mask", image="{id}.png", task="segmentation")
    assert masks.sources[0].masks == ("001.png",)


def test_decathlon_lists_groups_and_refuses_what_is_missing(tmp_path: Path) -> None:
    draw_pictures(tmp_path, 2)
    records = [{"image": "000.png", "label": 1, "patient": "a"}, {"image": "gone.png", "label": 0, "patient": "b"}]
    (tmp_path / "d.json").write_text(json.dumps({"training": records, "validation": [{"image": "001.png", "patient": "c"}]}))
    found = listed(tmp_path, layout="decathlon", path="d.json", group="patient")
    assert [(s.images, s.label, s.group) for s in found.sources] == [(("000.png",), 1, "a")]
    assert found.other_groups == {"c"}
    assert [p.code for p in found.problems] == ["not-found"]
    with pytest.raises(SpecError, match="no list 'test'; there are training, validation"):
        listed(tmp_path, layout="decathlon", path="d.json", split={"use": "test"})


def test_coco_counts_classes_from_one_and_keeps_images_without_boxes(tmp_path: Path) -> None:
    draw_pictures(tmp_path, 3)
    images = [{"id": i, "file_name": f"{i:03d}.png"} for i in range(3)]
    boxes = [
        {"image_id": 0, "category_id": 9, "bbox": [1, 2, 3, 4]},
        {"image_id": 0, "category_id": 4, "bbox": [0, 0, 5, 5], "iscrowd": 1},
        {"image_id": 2, "category_id": 4, "bbox": [1, 2, 0, 4]},
    ]
    document = {"images": images, "annotations": boxes, "categories": [{"id": 9, "name": "polyp"}, {"id": 4, "name": "tool"}]}
    (tmp_path / "c.json").write_text(json.dumps(document))
    found = listed(tmp_path, layout="coco", path="c.json", task="detection")
    assert found.classes == ["tool", "polyp"]
    assert [s.label for s in found.sources] == [{"boxes": [[1, 2, 4, 6]], "classes": [2]}, {"boxes": [], "classes": []}]
    assert [p.code for p in found.problems] == ["bad-box"]


def test_yolo_boxes_follow_the_image_through_padding(tmp_path: Path) -> None:
    (tmp_path / "images" / "a").mkdir(parents=True)
    (tmp_path / "labels" / "a").mkdir(parents=True)
    Image.fromarray(np.full((20, 40, 3), 99, np.uint8)).save(tmp_path / "images" / "a" / "x.png")
    Image.fromarray(np.full((20, 40, 3), 98, np.uint8)).save(tmp_path / "images" / "a" / "y.png")
    (tmp_path / "labels" / "a" / "x.txt").write_text("2 0.5 0.5 0.25 0.5\n")
    (tmp_path / "labels" / "a" / "y.txt").write_text("0 0.5 0.5 2 0.5\n")
    data = {"modality": "endoscopy", "layout": "yolo", "task": "detection", "split": {"use": "a"}}
    found = listed(tmp_path, **data)
    assert [p.code for p in found.problems] == ["bad-box"]
    settings_ = DataSettings.model_validate({**data, "path": "."})
    label = Reader(found.root, settings_, PreprocessSettings(size=(80, 80))).read(found.sources[0]).label
    # 40 x 20 becomes 80 x 40 in the middle of 80 x 80: the box of 10 x 10 at the centre becomes 20 x 20 at the centre.
    np.testing.assert_allclose(label.boxes, [[30, 30, 50, 50]])
    assert label.classes.tolist() == [3]


def test_folders_are_classes_in_the_order_given(tmp_path: Path) -> None:
    draw_pictures(tmp_path / "train" / "healthy", 1, seed=1)
    draw_pictures(tmp_path / "train" / "sick", 2, seed=2)
    found = listed(tmp_path, layout="folders", split={"use": "train"}, classes=["sick", "healthy"])
    assert sorted((s.images[0].split("/")[1], s.label) for s in found.sources) == [("healthy", 1), ("sick", 0), ("sick", 0)]
    with pytest.raises(SpecError, match=r"folders sick are not in data\.classes"):
        listed(tmp_path, layout="folders", split={"use": "train"}, classes=["healthy"])


def test_links_and_paths_that_leave_the_root_are_refused_unless_allowed(tmp_path: Path) -> None:
    outside = draw_pictures(tmp_path / "outside", 2)
    inside = tmp_path / "inside"
    inside.mkdir()
    (inside / "link.png").symlink_to(outside / "000.png")
    (inside / "t.csv").write_text("file,label\nlink.png,0\n../outside/001.png,1\n")
    assert [p.code for p in listed(inside, layout="csv", path="t.csv", label="label").problems] == ["outside-root"] * 2
    assert len(listed(inside, layout="csv", path="t.csv", label="label", allow_outside=True).sources) == 2


def test_groups_that_cross_splits_are_dropped_when_the_spec_says_so(tmp_path: Path) -> None:
    draw_pictures(tmp_path, 4)
    table = "file,label,patient,split\n000.png,0,a,test\n001.png,1,b,test\n002.png,0,a,train\n003.png,1,c,old\n"
    (tmp_path / "t.csv").write_text(table.replace("003.png,1,c", "003.png,1,b"))
    spec = {
        "name": "x",
        "data": {
            "modality": "fundus",
            "task": "classification",
            "layout": "csv",
            "path": "t.csv",
            "label": "label",
            "group": "patient",
            "group_conflict": "drop",
            "split": {"use": "test", "ignore": ["old"]},
        },
        "preprocess": {"size": [32, 32]},
        "victim": {"network": "monai:densenet121", "normalize": {"mean": [0.5] * 3, "std": [0.5] * 3}},
        "attacks": {"a": {"attack": "pgd", "epsilon": 4}},
    }
    seen = survey(parse_spec(spec, "spec"), tmp_path, FileHashes(tmp_path / "cache"), b"key")
    # Patient a also stands in train; patient b only in `old`, which is no split.
    assert [item.sample.source.images for item in seen.found] == [("001.png",)]


IMAGE = st.dictionaries(st.sampled_from(["id", "file_name", "group", "split"]), JSON | st.sampled_from(["000.png", 0, 1]), max_size=4)
BOX_KEYS = st.sampled_from(["image_id", "category_id", "bbox", "iscrowd"])
BOX = st.dictionaries(BOX_KEYS, JSON | st.sampled_from([0, 1, [1, 1, 2, 2]]), max_size=4)
CELLS = st.sampled_from(["000.png", "0", "1", "nan", "inf", "1e999"])
KINDS = st.dictionaries(st.sampled_from(["id", "name"]), JSON, max_size=2)


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.lists(IMAGE | JSON, max_size=3), st.lists(BOX | JSON, max_size=3), st.lists(KINDS | JSON, max_size=2))
def test_any_coco_file_is_read_or_refused(tmp_path: Path, images: Any, annotations: Any, categories: Any) -> None:
    if not (tmp_path / "000.png").exists():
        draw_pictures(tmp_path, 1)
    (tmp_path / "c.json").write_text(json.dumps({"images": images, "annotations": annotations, "categories": categories}))
    try:
        found = listed(tmp_path, layout="coco", path="c.json", task="detection")
    except MedadvError:
        return
    for source in found.sources:
        assert all(x2 > x1 and y2 > y1 for x1, y1, x2, y2 in source.label["boxes"])


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.lists(st.lists(st.text(max_size=6) | CELLS, min_size=2, max_size=2), max_size=4))
def test_any_csv_is_read_or_refused(tmp_path: Path, rows: list[list[str]]) -> None:
    if not (tmp_path / "000.png").exists():
        draw_pictures(tmp_path, 1)
    with (tmp_path / "t.csv").open("w", newline="", encoding="utf-8", errors="surrogatepass") as stream:
        csv.writer(stream).writerows([["file", "label"], *rows])
    try:
        found = listed(tmp_path, layout="csv", path="t.csv", label="label")
    except MedadvError:
        return
    assert len(found.sources) + len(found.problems) <= len(rows)
    assert all(isinstance(source.label, int) for source in found.sources)
