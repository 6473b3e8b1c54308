"""COCO files as people have them: templates, sizes, boxes, outlines, and what labels nothing."""

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from pycocotools import mask as coco_mask
from tests.datasets.listings import listed, picture, read_all, surveyed, text

from medadv.common.errors import SpecError
from medadv.spec.reading import parse_spec
from medadv_transforms import InputError


def coco(folder: Path, annotations: list[dict[str, Any]], images: list[dict[str, Any]] | None = None, **save: Any) -> Path:
    """A label file of one picture 40 x 20, two categories."""
    picture(folder / "a.png")
    document = {
        "images": images or [{"id": 7, "file_name": "a.png", "width": 40, "height": 20}],
        "annotations": [{"id": i, "image_id": 7, "category_id": 3, **a} for i, a in enumerate(annotations)],
        "categories": [{"id": 3, "name": "polyp"}, {"id": 8, "name": "tool"}],
    }
    return text(folder / "c.json", json.dumps(document), **save)


SQUARE = [[4, 2, 12, 2, 12, 8, 4, 8]]


def test_coco_root_template_and_byte_order_mark(tmp_path: Path) -> None:
    coco(tmp_path / "x/annotations", [{"bbox": [1, 1, 4, 4]}], encoding="utf-8-sig")
    (tmp_path / "x/val").mkdir()
    shutil.move(tmp_path / "x/annotations/a.png", tmp_path / "x/val/a.png")
    data = {"layout": "coco", "path": "x/annotations/c.json"}
    found = listed(tmp_path, root="x", image="val/{file_name}", **data)
    assert [(s.images, s.size) for s in found.sources] == [(("val/a.png",), (20, 40))]
    with pytest.raises(SpecError, match="names no key of an image"):
        listed(tmp_path, root="x", image="val/{name}", **data)
    with pytest.raises(SpecError, match=r"data\.root is relative to the spec"):
        listed(tmp_path, root="y", **data)
    with pytest.raises(SpecError, match="path is the root"):
        parse_spec({"name": "x", "data": {"modality": "ct", "task": "segmentation", "layout": "folders", "path": ".", "root": "x"}}, "spec")


def test_coco_sizes_are_held_against_the_upright_picture(tmp_path: Path) -> None:
    exif = Image.Exif()
    exif[0x0112] = 6
    picture(tmp_path / "turned.jpg", exif=exif)
    sizes = {"a.png": (40, 20), "b.png": (20, 40), "c.png": (80, 40), "d.png": (None, None), "turned.jpg": (40, 20)}
    for name in ("b.png", "c.png", "d.png"):
        picture(tmp_path / name)
    images = [{"id": i, "file_name": name, "width": w, "height": h} for i, (name, (w, h)) in enumerate(sizes.items())]
    coco(tmp_path, [{"bbox": [1, 1, 4, 4], "image_id": i} for i in range(5)], images)
    seen = surveyed(tmp_path, layout="coco", path="c.json")
    assert sorted(item.sample.source.images[0] for item in seen.found) == ["a.png", "d.png"]
    assert [(p.path, p.code, "EXIF" in p.message) for p in seen.problems] == [
        ("b.png", "size-differs", False),
        ("c.png", "size-differs", False),
        ("turned.jpg", "size-differs", True),
    ]


def test_coco_counts_what_it_leaves_out_and_refuses_what_labels_nothing(tmp_path: Path) -> None:
    picture(tmp_path / "b.png")
    images = [{"id": 7, "file_name": "a.png"}, {"id": 8, "file_name": "b.png"}]
    crowd = {"bbox": [0, 0, 9, 9], "iscrowd": 1}
    coco(tmp_path, [{"bbox": [1, 1, 4, 4]}, crowd, {"bbox": [1, 1, 4, 4], "image_id": 99}], images)
    assert surveyed(tmp_path, layout="coco", path="c.json").notes == [
        "1 annotation of images that the file does not list",
        "1 crowd annotation left out",
        "1 of 2 images without an annotation: taken as images without objects",
    ]
    for annotations in ([], [{"bbox": [1, 1, 4, 4], "image_id": 99}]):
        coco(tmp_path, annotations, images)
        with pytest.raises(SpecError, match="no annotation belongs to any of the images"):
            surveyed(tmp_path, layout="coco", path="c.json")


def test_coco_boxes_that_are_missing_are_those_of_the_outlines(tmp_path: Path) -> None:
    plane = np.zeros((20, 40), np.uint8)
    plane[3:9, 10:25] = 1
    packed = coco_mask.encode(np.asfortranarray(plane))
    rle = {"size": [20, 40], "counts": packed["counts"].decode()}
    runs = [10 * 20 + 3, *[6, 14] * 14, 6]
    plain = {"size": [20, 40], "counts": [*runs, 20 * 40 - sum(runs)]}
    coco(tmp_path, [{"segmentation": s} for s in (SQUARE, rle, plain)] + [{"bbox": [0, 0, 5, 5], "segmentation": SQUARE}])
    (source,) = listed(tmp_path, layout="coco", path="c.json").sources
    assert source.label["boxes"] == [[4, 2, 12, 8], [10, 3, 25, 9], [10, 3, 25, 9], [0, 0, 5, 5]]
    coco(tmp_path, [{"category_id": 8}])
    assert [p.code for p in listed(tmp_path, layout="coco", path="c.json").problems] == ["bad-box"]


def test_coco_outlines_are_masks(tmp_path: Path) -> None:
    plane = np.zeros((20, 40), np.uint8)
    plane[10:18, 20:35] = 1
    rle = {"size": [20, 40], "counts": coco_mask.encode(np.asfortranarray(plane))["counts"].decode()}
    crowd = {"segmentation": [[0, 0, 40, 0, 40, 4, 0, 4]], "iscrowd": 1}
    coco(tmp_path, [{"segmentation": SQUARE}, {"segmentation": rle, "category_id": 8}, crowd])
    data = {"layout": "coco", "path": "c.json", "task": "segmentation"}
    (sample,) = read_all(tmp_path, **data)
    expected = np.where(plane, 2, 0)
    expected[2:8, 4:12] = 1
    ignored = np.zeros((20, 40), bool)
    ignored[:4] = True
    expected[ignored & (expected == 0)] = 255
    np.testing.assert_array_equal(sample.label, expected)
    (planes,) = read_all(tmp_path, overlapping=True, **data)
    np.testing.assert_array_equal(planes.label == 1, [expected == 1, expected == 2])
    # Twice as large, with the same nearest neighbour as a mask picture.
    (large,) = read_all(tmp_path, preprocess={"size": [40, 80], "fit": "stretch"}, **data)
    np.testing.assert_array_equal(large.label, expected.repeat(2, 0).repeat(2, 1))


@pytest.mark.parametrize(
    ("segmentation", "code"),
    [
        ([[1, 2, 3, 4]], "bad-segment"),
        ([[1, 2, 3, 4, 5, 1e9]], "bad-segment"),
        ({"size": [20, 40], "counts": "zzzz"}, "bad-segment"),
        ({"size": [20, 40], "counts": [5, 5]}, "bad-segment"),
        ({"size": [10, 40], "counts": [400]}, "size-differs"),
        ([], "missing-label"),
    ],
)
def test_damaged_outlines_are_refused(tmp_path: Path, segmentation: Any, code: str) -> None:
    coco(tmp_path, [{"segmentation": segmentation}])
    data = {"layout": "coco", "path": "c.json", "task": "segmentation"}
    found = [p.code for p in listed(tmp_path, **data).problems]
    if not found:
        with pytest.raises(InputError) as caught:
            read_all(tmp_path, **data)
        found = [caught.value.code]
    assert found == [code]


def test_overlapping_outlines_need_a_sigmoid_head(tmp_path: Path) -> None:
    coco(tmp_path, [{"segmentation": SQUARE}, {"segmentation": SQUARE, "category_id": 8}])
    data = {"layout": "coco", "path": "c.json", "task": "segmentation"}
    with pytest.raises(InputError, match="label-overlap"):
        read_all(tmp_path, **data)
    (sample,) = read_all(tmp_path, overlapping=True, **data)
    np.testing.assert_array_equal(sample.label[0], sample.label[1])
