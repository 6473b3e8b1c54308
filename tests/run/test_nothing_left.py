"""Where no sample can be used, nothing of a corpus stays behind, and nothing goes that was there before."""

from pathlib import Path

import pytest
from PIL import Image
from tests.conftest import CLASSIFIER, draw_pictures, quiet, save_victim, tiny_spec

from medadv.common.errors import SpecError, StoppedError
from medadv.common.stop import Stop
from medadv.prepare.request import Options
from medadv.run.part import freeze_plan, run_part
from medadv.run.run import run

pytestmark = pytest.mark.usefixtures("inline")


def tree(folder: Path) -> dict[str, bytes | None]:
    """Everything below a folder; the content of files."""
    return {path.relative_to(folder).as_posix(): path.read_bytes() if path.is_file() else None for path in folder.rglob("*")}


def photographs(folder: Path, cut: int | None) -> Path:
    """Three JPEG photographs, of which `cut` bytes are missing at the end; with None, all but ten are. Returns the spec."""
    draw_pictures(folder / "data", 3)
    for path in sorted((folder / "data").glob("*.png")):
        Image.open(path).save(path.with_suffix(".jpg"))
        path.unlink()
        content = path.with_suffix(".jpg").read_bytes()
        path.with_suffix(".jpg").write_bytes(content[:10] if cut is None else content[: len(content) - cut])
    table = folder / "data" / "labels.csv"
    table.write_text(table.read_text().replace(".png", ".jpg"))
    save_victim(folder / "victim.safetensors", "monai:densenet121", CLASSIFIER)
    return tiny_spec(folder, output="made/here/corpus", sanity_samples=0)


@pytest.mark.parametrize(
    ("cut", "counted"),
    [(None, r"3 cannot be used, the first as decode-failed: The file is damaged"), (40, r"3 cannot be used: The file is damaged")],
    ids=["seen in the headers", "seen while loading"],
)
def test_nothing_is_left_where_no_input_can_be_read(cut: int | None, counted: str, tmp_path: Path) -> None:
    spec = photographs(tmp_path, cut)
    before = tree(tmp_path)
    with pytest.raises(SpecError, match=rf"no usable sample.*{counted}"):
        run(spec, Options(), quiet)
    assert tree(tmp_path) == before


@pytest.mark.parametrize("cut", [None, 40], ids=["seen in the headers", "seen while loading"])
def test_what_was_there_before_stays(cut: int | None, tmp_path: Path) -> None:
    """A key that the user put there, and other files in the folder."""
    spec = photographs(tmp_path, cut)
    private = tmp_path / "made" / "here" / "corpus" / ".medadv"
    private.mkdir(parents=True, mode=0o700)
    (private / "group.key").write_bytes(b"k" * 32)
    (private.parent / "README.txt").write_text("mine")
    before = tree(tmp_path)
    with pytest.raises(SpecError, match="no usable sample"):
        run(spec, Options(), quiet)
    assert tree(tmp_path) == before


def test_parts_and_frozen_plans_leave_nothing_either(tmp_path: Path) -> None:
    spec = photographs(tmp_path, None)
    before = tree(tmp_path)
    for verb in (lambda: run_part(spec, "1/2", Options(), quiet, Stop()), lambda: freeze_plan(spec, Options(), quiet, Stop())):
        with pytest.raises(SpecError, match="no usable sample"):
            verb()
        assert tree(tmp_path) == before


def test_a_wrong_victim_leaves_nothing_and_a_right_one_begins_anew(tmp_path: Path) -> None:
    spec = photographs(tmp_path, 0)
    with pytest.raises(SpecError):
        run(spec, Options(overrides=["victim.arguments.growth_rate=8"]), quiet)
    assert not (tmp_path / "made").exists()
    assert run(spec, Options(), quiet).manifest.samples == 3


def test_a_corpus_that_was_planned_stays_whatever_happens(tmp_path: Path) -> None:
    spec = photographs(tmp_path, 0)
    corpus = run(spec, Options(), quiet).corpus
    before = tree(corpus)
    with pytest.raises(SpecError, match="was made with other settings"):
        run(spec, Options(overrides=["attacks.pgd-8.epsilon=4"]), quiet)
    after = tree(corpus)
    assert {name: after[name] for name in before if not name.endswith("run.jsonl")} == {
        name: content for name, content in before.items() if not name.endswith("run.jsonl")
    }
    # One bad input of several is quarantined, as ever.
    (tmp_path / "data" / "000.jpg").write_bytes(b"damaged")
    assert run(spec, Options(), quiet).exit_code == 3


def test_a_run_that_is_stopped_before_it_planned_leaves_nothing(tmp_path: Path) -> None:
    spec = photographs(tmp_path, 0)
    stop = Stop()
    stop.signal, stop.count = 2, 1
    with pytest.raises(StoppedError):
        run(spec, Options(), quiet, stop)
    assert not (tmp_path / "made").exists()
