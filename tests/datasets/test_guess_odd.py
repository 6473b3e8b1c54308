"""Guessing a first spec: words for classes, and files and names that nobody expects."""

import json
import os
import random
from pathlib import Path

import pytest
from tests.datasets.trees import tree, written
from typer.testing import CliRunner

from medadv.cli.app import app
from medadv.cli.init import init
from medadv.common.errors import SpecError
from medadv.datasets.guess import guess
from medadv.datasets.guessed import Guess
from medadv.spec.reading import load_spec


def test_columns_of_words_name_the_classes(tmp_path: Path) -> None:
    tree(tmp_path / "d", "x/1.jpg")
    (tmp_path / "d/t.csv").write_text("Image;Diagnosis\nx/1.jpg;no\nx/2.jpg;yes\nx/3.jpg;no\n")
    spec, _ = written(tmp_path / "d")
    assert (spec.data.image, spec.data.label, spec.data.classes) == ("Image", "Diagnosis", ["no", "yes"])
    (tmp_path / "e").mkdir()
    (tmp_path / "e/t.csv").write_text("file,label\n" + "".join(f"{n}.jpg,report {n}\n" for n in range(9)))
    found = guess(tmp_path / "e")
    assert found is not None
    assert found.task_unsure


def odd_files(folder: Path) -> None:
    """Label files and pictures as no tool writes them."""
    contents: dict[str, bytes] = {
        "deep.json": b'{"training":' + b"[" * 5000,
        "list.json": b"[1, 2]",
        "coco.json": b'{"images": [1, null], "annotations": [], "categories": 3}',
        "coco2.json": b'{"images": [{"file_name": 3, "split": [1]}], "annotations": [], "categories": null}',
        "dec.json": b'{"training": [{"image": null, "label": 3}], "test": {}}',
        "dec2.json": b'{"training": [{"image": "\\u0000", "label": "\\ud800"}]}',
        "dataset.json": b'{"channel_names": [], "labels": 3, "file_ending": 4}',
        "bad.json": b"\xff\xfe\x00",
        "null.csv": b"file,label\n\x00,\x00\n",
        "odd.csv": b"file,label\na.png\n",
        "words.csv": 'file,label\na.png,"a\nb\u2028: {#"\nb.png,"yes: [no"\n'.encode(),
        "wide.csv": b"file,label\n" + b"," * 100_000,
        "empty.csv": b"",
        "1.txt": "\u00b2 1 1 1 1\n".encode(),
        "2.txt": b"99999999999999999999 1 1 1 1",
        "1.png": b"\x89PNG\r\n\x1a\nnothing",
        "2.png": b"",
        "3.tif": b"II*\x00\xff\xff\xff\xff",
        "4.gif": b"GIF89a",
        "v.nii.gz": b"\x1f\x8b",
        "s/d.dcm": b"",
        "masks/{id}.png": b"",
        "images/{id}.png": b"",
        "on/yes/1.jpg": b"",
        "it's \"\u00e9\U0001f600/1 #2: [x].jpg": b"",
        "x/%s{}{0}.png": b"",
    }
    for name, content in contents.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(content)
    os.mkfifo(folder / "pipe.json")
    os.mkfifo(folder / "pipe.png")
    (folder / "loop").symlink_to(folder)
    (folder / "gone.csv").symlink_to(folder / "nowhere")
    (folder / "self.json").symlink_to(folder / "self.json")
    (folder / "folder.csv").mkdir()
    (folder / "locked").mkdir()
    (folder / "locked/a.json").write_text("{}")
    (folder / "locked/a.json").chmod(0)
    (folder / os.fsdecode(b"\xff\xfe.png")).touch()
    (folder / os.fsdecode(b"c\xff")).mkdir()
    (folder / os.fsdecode(b"c\xff/a.png")).touch()
    (folder / "new\nline.png").touch()


def test_no_file_ends_it_in_a_traceback(tmp_path: Path) -> None:
    home = tmp_path / "odd"
    home.mkdir()
    odd_files(home)
    every = sorted(path for path in home.rglob("*") if not path.is_dir() or path.is_symlink())
    draws = random.Random(0)
    for round_ in range(24):
        folder = tmp_path / f"round {round_} #: {{}}"
        for path in draws.sample(every, 1 + round_ % 4):
            place = folder / path.relative_to(home)
            place.parent.mkdir(parents=True, exist_ok=True)
            os.link(path, place, follow_symlinks=False)
        out = tmp_path / f"{round_}.yaml"
        answer = CliRunner().invoke(app, ["init", str(folder), "--out", str(out)], standalone_mode=False)
        assert answer.exception is None or isinstance(answer.exception, SpecError), (answer.exception, sorted(folder.rglob("*")))
        assert out.exists() == (answer.exception is None)
        if out.exists():
            load_spec(out)
    found = guess(home)
    assert isinstance(found, Guess)


def test_a_folder_whose_name_is_no_text_is_refused(tmp_path: Path) -> None:
    folder = tmp_path / os.fsdecode(b"\xff")
    tree(folder, "a/1.png", "b/1.png")
    with pytest.raises(SpecError, match="no spec can be written"):
        init(folder, tmp_path / "out.yaml")
    assert not (tmp_path / "out.yaml").exists()


def test_boxes_in_space_make_a_spec_of_volumes(tmp_path: Path) -> None:
    """LUNA16's lists, as MONAI's detection tutorials have them."""
    folder = tree(tmp_path / "luna", "1.3.6/1.3.6.nii.gz")
    box = [-24.0, 192.1, -391.1, 8.1, 8.1, 8.1]
    lists = {use: [{"image": "1.3.6/1.3.6.nii.gz", "box": [box], "label": [0]}] for use in ("training", "validation")}
    (folder / "dataset_fold0.json").write_text(json.dumps(lists))
    spec, text = written(folder)
    assert (spec.data.task, spec.data.layout, spec.data.split and spec.data.split.use) == ("detection", "decathlon", "validation")
    assert (spec.preprocess.as_, spec.victim.network, spec.victim.arguments["num_classes"]) == ("volume", "monai:retinanet", 1)
    assert "box_mode: cccwhd, box_space: lps" in text
