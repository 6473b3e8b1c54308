"""YOLO labels as people have them: what is read, what is refused, and what is passed over with a word."""

from pathlib import Path
from typing import Any

import pytest
from tests.datasets.listings import listed, picture, surveyed, text

from medadv.common.errors import SpecError

BOX = "0 0.5 0.5 0.25 0.5\n"


@pytest.mark.parametrize(
    ("image", "label", "data"),
    [
        ("d/images/val/x.png", "d/labels/val/x.txt", {"path": "d", "split": {"use": "val"}}),
        ("d/val/images/x.png", "d/val/labels/x.txt", {"path": "d", "split": {"use": "val"}}),
        ("d/val/images/p/x.png", "d/val/labels/p/x.txt", {"path": "d/val"}),
        ("d/images/x.png", "d/labels/x.txt", {"path": "d/images"}),
        ("d/images/2024/images/x.png", "d/images/2024/labels/x.txt", {"path": "d"}),
        ("d/images/2024/images/x.png", "d/labels/2024/images/x.txt", {"path": "d"}),
        ("d/a/x.png", "d/a/x.txt", {"path": "d"}),
        ("d/images/x.png", "d/images/x.txt", {"path": "d"}),
        ("d/images/val/x.png", "d/labels/val/x.txt", {"path": "d/images/val", "root": "d"}),
    ],
)
def test_yolo_labels_at_any_depth(tmp_path: Path, image: str, label: str, data: dict[str, Any]) -> None:
    # What leads to the spec may be called images as well.
    base = tmp_path / "images"
    picture(base / image)
    text(base / label, BOX)
    found = listed(base, layout="yolo", **data)
    assert [s.label for s in found.sources] == [{"relative": [[1, 0.5, 0.5, 0.25, 0.5]]}]
    assert (found.notes, found.nothing_labelled) == ([], None)


def test_yolo_names_start_where_images_and_labels_part(tmp_path: Path) -> None:
    picture(tmp_path / "d/images/val/x.png")
    text(tmp_path / "d/labels/val/x.txt", BOX)
    found = listed(tmp_path, layout="yolo", path="d/images/val")
    assert (found.root, [s.images for s in found.sources]) == (tmp_path / "d", [("images/val/x.png",)])
    # As `reproduce --data` asks again, with the data elsewhere.
    (tmp_path / "d").rename(tmp_path / "moved")
    assert listed(tmp_path / "moved", layout="yolo", path="images/val").sources == found.sources


def test_yolo_takes_a_list_of_images(tmp_path: Path) -> None:
    for name in ("a", "b"):
        picture(tmp_path / f"d/images/{name}.png")
        text(tmp_path / f"d/labels/{name}.txt", BOX)
    text(tmp_path / "d/lists/val.txt", "./images/b.png \r\n\r\n")
    found = listed(tmp_path, layout="yolo", path="d/lists/val.txt", root="d")
    assert [(s.images, len(s.label["relative"])) for s in found.sources] == [(("images/b.png",), 1)]
    assert [p.code for p in listed(tmp_path, layout="yolo", path="d/lists/val.txt").problems] == ["not-found"]


def test_yolo_counts_what_has_no_partner_and_refuses_a_corpus_without_labels(tmp_path: Path) -> None:
    for number in range(3):
        picture(tmp_path / f"images/{number}.png", number)
    text(tmp_path / "labels/0.txt", "")
    text(tmp_path / "labels/gone.txt", BOX)
    text(tmp_path / "labels/classes.txt", "polyp\n")
    text(tmp_path / "images/notes.docx", "x")
    text(tmp_path / "images/frame", "x")
    seen = surveyed(tmp_path, layout="yolo")
    assert len(seen.found) == 3
    assert seen.notes == [
        "2 files skipped (1 .docx, 1 no suffix)",
        "2 of 3 images without a label file: taken as images without objects",
        "1 label file without an image",
    ]
    (tmp_path / "labels/0.txt").unlink()
    with pytest.raises(SpecError, match=r"no label file for any of 3 images: labels/0.txt does not exist"):
        surveyed(tmp_path, layout="yolo")
    assert len(surveyed(tmp_path, layout="yolo", label="none").found) == 3
