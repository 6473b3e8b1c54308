"""A holder that lost its lock writes no more, wherever it was stopped: its files have no way to their names."""

import json
import subprocess
import sys
from collections import Counter
from contextlib import nullcontext
from pathlib import Path

import pytest
from tests.conftest import CLASSIFIER, InlinePool, draw_pictures, quiet, save_victim, tiny_spec

from medadv.common import files
from medadv.prepare.request import Options
from medadv.run import cluster, lock
from medadv.run.run import run

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A corpus of two shards of two patients each."""
    folder = tmp_path_factory.mktemp("source")
    draw_pictures(folder / "data", 4)
    save_victim(folder / "victim.safetensors", "monai:densenet121", CLASSIFIER)
    attacks = {"pgd-8": {"attack": "pgd", "epsilon": 8, "steps": 1}}
    execution = {"batch_size": 2, "shard_size": 2, "workers": 1}
    spec = tiny_spec(folder, data__group=None, sanity_samples=0, attacks=attacks, execution=execution)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(cluster, "connect", lambda *_, **__: nullcontext(InlinePool()))
        run(spec, Options(), quiet)
    return folder


def test_a_holder_that_was_taken_over_changes_nothing_any_more(source: Path, tmp_path: Path) -> None:
    """Some of the file operations, spread over all; late_holder.py tries each of them in a few minutes."""
    command = [sys.executable, "-m", "tests.run.late_holder", str(source), str(tmp_path), "finish:3", "forget:9"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    stops = [json.loads(line) for line in done.stdout.splitlines()]
    counts = Counter(stop["what"] for stop in stops)
    assert counts["finish"] >= 5
    assert counts["forget"] >= 6
    assert [stop for stop in stops if stop["changed"] or stop["verify"] or stop["left"]] == []
    # It ended in one line, or had nothing more to publish.
    assert {stop["ended"] for stop in stops} <= {0, 3}, done.stderr
    assert "took this corpus over" in done.stderr


def test_a_folder_that_was_moved_away_lets_no_file_be_named_or_removed(tmp_path: Path) -> None:
    (tmp_path / "kept").write_text("new")
    with lock.held(tmp_path / "lock") as hold, files.writing_in(hold.folder):
        made = files.temporary(tmp_path / "manifest.json")
        made.write_text("old")
        lock.retire(hold.folder.parent)
        for late in (
            lambda: files.publish(made, tmp_path / "manifest.json"),
            lambda: files.write_file(tmp_path / "manifest.json", b"old"),
            lambda: files.remove(tmp_path / "kept"),
        ):
            with pytest.raises(FileNotFoundError):
                late()
        assert sorted(path.name for path in tmp_path.iterdir()) == ["kept", "lock", "lock.guard", "writing"]


def test_parts_that_are_alive_keep_their_folders_when_another_one_begins(tmp_path: Path) -> None:
    with lock.held(tmp_path / "1-of-2.lock", "part") as first:
        dead = lock.writing_folder(first.path, "dead")
        dead.mkdir()
        with lock.held(tmp_path / "2-of-2.lock", "part") as second:
            assert sorted(path.name for path in dead.parent.iterdir()) == sorted([first.token, second.token])
        assert first.folder.is_dir()
    assert not dead.parent.exists()


@pytest.mark.usefixtures("inline")
def test_a_file_that_is_missing_is_no_lost_lock(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    draw_pictures(tmp_path / "data", 2)
    save_victim(tmp_path / "victim.safetensors", "monai:densenet121", CLASSIFIER)
    monkeypatch.setattr("medadv.run.finish.build_manifest", lambda *_, **__: Path(tmp_path / "nothing").read_bytes())
    with pytest.raises(Exception, match="nothing: No such file or directory; every finished shard is kept"):
        run(tiny_spec(tmp_path, sanity_samples=0), Options(), quiet)
