"""Private means private: folder, key and published files have the rights they should, and no path of this machine is published."""

import os
import stat
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from tests.conftest import CLASSIFIER, draw_pictures, quiet, save_victim, tiny_spec
from tests.run.test_privacy import everything_published
from typer.testing import CliRunner

from medadv.cli.app import app
from medadv.common import files
from medadv.common.errors import SpecError
from medadv.corpus import private
from medadv.corpus.folder import Workspace
from medadv.prepare.request import Options
from medadv.report.page import write_report
from medadv.run import finish
from medadv.run.run import run

pytestmark = pytest.mark.usefixtures("inline")


@pytest.fixture
def spec(tmp_path: Path) -> Path:
    draw_pictures(tmp_path / "data", 2)
    save_victim(tmp_path / "victim.safetensors", "monai:densenet121", CLASSIFIER)
    return tiny_spec(tmp_path, sanity_samples=0)


@pytest.fixture(params=[0o000, 0o027], ids=["open", "group"])
def umask(request: pytest.FixtureRequest) -> Iterator[int]:
    before = os.umask(request.param)
    yield request.param
    os.umask(before)


def mode(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


def test_published_files_have_what_the_umask_gives_and_private_ones_their_owner(spec: Path, umask: int) -> None:
    # Somebody made the private folder before, for all to read.
    (spec.parent / "corpus" / ".medadv").mkdir(parents=True)
    (spec.parent / "corpus" / ".medadv").chmod(0o755)
    corpus = run(spec, Options(), quiet).corpus
    write_report(corpus)
    published = [path for path in corpus.rglob("*") if ".medadv" not in path.parts]
    assert {"report.html", "manifest.json", "shard-00000.h5", "shard-00000.json", "quarantine.jsonl"} <= {path.name for path in published}
    assert {path.name: mode(path) for path in published if path.is_file()} == {
        path.name: 0o666 & ~umask for path in published if path.is_file()
    }
    assert {mode(path) for path in published if path.is_dir()} == {0o777 & ~umask}
    assert (mode(corpus / ".medadv"), mode(corpus / ".medadv" / "group.key")) == (0o700, 0o600)


@pytest.mark.usefixtures("umask")
def test_the_key_is_nobody_elses_at_any_moment(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[int] = []
    real = files.publish

    def publish(temporary: Path, final: Path) -> None:
        seen.append(mode(temporary))
        real(temporary, final)

    monkeypatch.setattr(files, "publish", publish)
    workspace = Workspace(tmp_path)
    workspace.make()
    private.ensure_key(workspace)
    assert seen == [0o600]
    assert mode(workspace.key) == 0o600


def test_a_private_folder_that_is_a_link_is_refused_and_nothing_is_written_through_it(spec: Path) -> None:
    elsewhere = spec.parent / "elsewhere"
    elsewhere.mkdir(mode=0o755)
    (spec.parent / "corpus").mkdir()
    (spec.parent / "corpus" / ".medadv").symlink_to(elsewhere)
    with pytest.raises(SpecError, match="is a link"):
        run(spec, Options(), quiet)
    assert list(elsewhere.iterdir()) == []
    assert mode(elsewhere) == 0o755


def test_neither_folders_nor_the_specs_file_name_nor_error_texts_are_published(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The second victim vanishes before the checks, and its loader says where it was looked for."""
    home = tmp_path / "janedoe-home"
    draw_pictures(home / "data", 8)
    save_victim(home / "victim.safetensors", "monai:densenet121", CLASSIFIER)
    normalize = {"mean": [0.5] * 3, "std": [0.25] * 3}
    second = {"network": "monai:densenet121", "arguments": CLASSIFIER, "weights": "janedoe-second.safetensors", "normalize": normalize}
    spec = tiny_spec(home, second_victim=second).rename(home / "janedoe-spec.yaml")
    weights = save_victim(home / "janedoe-second.safetensors", "monai:densenet121", CLASSIFIER)
    real = finish.corpus_sanity

    def without_weights(*arguments: Any, **settings: Any) -> Any:
        weights.unlink()
        return real(*arguments, **settings)

    monkeypatch.setattr(finish, "corpus_sanity", without_weights)
    done = CliRunner().invoke(app, ["run", str(spec)])
    assert done.exit_code == 0, done.output
    manifest = (home / "corpus" / "manifest.json").read_text()
    assert "sanity checks left out: SpecError" in manifest
    assert b"janedoe" not in everything_published(home / "corpus")
    assert "janedoe-second" in (home / "corpus" / ".medadv" / "logs" / "run.jsonl").read_text()


PLACES = ["/home/jane/net.json", "~/net.json", "C:\\nets\\jane", "\\\\server\\jane", "file:///home/jane", ["/srv"], {"a": {"b": "/srv"}}]


@pytest.mark.parametrize("value", PLACES)
def test_arguments_that_lead_to_a_place_are_refused_before_they_are_published(value: object, spec: Path, tmp_path: Path) -> None:
    tiny_spec(tmp_path, victim__arguments={**CLASSIFIER, "config": value})
    with pytest.raises(SpecError, match=r"^victim\.arguments\.config.* names a place on this machine") as caught:
        run(spec, Options(), quiet)
    assert "jane" not in str(caught.value)
    assert not (tmp_path / "corpus").exists()


def test_arguments_that_lead_nowhere_are_taken(spec: Path, tmp_path: Path) -> None:
    act = ["leakyrelu", {"inplace": True, "negative_slope": 0.1}]
    tiny_spec(tmp_path, victim__arguments={**CLASSIFIER, "act": act}, sanity_samples=0)
    assert run(spec, Options(), quiet).manifest.victim.arguments["act"] == act
