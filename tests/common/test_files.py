"""Where results go is looked at before the work: folders are made, and what cannot be written is refused in one line."""

import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
from tests.conftest import load_script

from medadv.common.errors import SpecError
from medadv.common.files import writable_file, writable_folder

SCRIPTS = Path(__file__).resolve().parents[2] / "scripts"
# Script, its arguments but for the place, the name of a file in that place or None where it is a folder, and the work's first step.
CASES: dict[str, tuple[list[str], str | None, str]] = {
    "bench/attack.py": (["small", "--out"], None, "build"),
    "bench/attacks.py": (["lung", "--out"], None, "benches"),
    "bench/evaluate_peers.py": (["evaluation", "pgd", "--epsilon", "1", "--out"], "figures.json", "read_manifest"),
    "bench/robust_victims.py": (["--data", ".", "--out"], None, "photographs"),
    "bench/hardenings.py": (["lungs", "--spec", "spec.yaml", "--out"], None, "written"),
    "bench/two_classes.py": (["--out"], None, "write_phantoms"),
    "train_victims.py": (["--data", ".", "--out"], None, "train"),
    "contact_sheet.py": (["corpus", "--out"], "sheet.png", "row"),
    "fuzz_inputs.py": (["--keep"], None, "run_cases"),
}


class Began(Exception):
    """The work began."""


def test_a_missing_folder_is_made_and_left_empty(tmp_path: Path) -> None:
    folder = tmp_path / "a" / "b"
    assert writable_folder(folder) == folder
    assert list(folder.iterdir()) == []
    target = tmp_path / "c" / "file.json"
    assert writable_file(target) == target
    assert list(target.parent.iterdir()) == []


def test_a_file_that_is_there_keeps_its_content(tmp_path: Path) -> None:
    kept = tmp_path / "file.json"
    kept.write_text("kept")
    writable_file(kept)
    assert kept.read_text() == "kept"


def test_what_cannot_be_written_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(SpecError, match=r"file/below: results cannot be written there \(Not a directory\)"):
        writable_folder(tmp_path / "file" / "below")
    with pytest.raises(SpecError, match="a folder; name a file"):
        writable_file(tmp_path)
    with pytest.raises(SpecError, match="results cannot be written there"):
        writable_folder(Path("/proc/medadv"))

    def refused(*_: Any, **__: Any) -> Any:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(Path, "open", refused)
    with pytest.raises(SpecError, match=r"file: cannot be written anew \(Permission denied\)"):
        writable_file(tmp_path / "file")


@pytest.fixture
def script(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    monkeypatch.syspath_prepend((SCRIPTS / request.param).parent)
    module = load_script(request.param)

    def begin(*_: Any, **__: Any) -> Any:
        raise Began

    monkeypatch.setattr(module, CASES[request.param][2], begin)
    monkeypatch.setenv("MEDADV_DATA", str(SCRIPTS))
    return module


def arguments(name: str, place: Path) -> list[str]:
    options, file, _ = CASES[name]
    return [name, *options, str(place if file is None else place / file)]


@pytest.mark.parametrize(("name", "script"), [(name, name) for name in sorted(CASES)], indirect=["script"])
def test_scripts_look_at_the_place_before_they_work(
    name: str, script: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(sys, "argv", arguments(name, tmp_path / "not" / "there"))
    with pytest.raises(Began):
        script.main()
    assert (tmp_path / "not" / "there").is_dir()
    (tmp_path / "file").write_text("")
    monkeypatch.setattr(sys, "argv", arguments(name, tmp_path / "file" / "below"))
    with pytest.raises(SystemExit) as stopped:
        script.main()
    assert stopped.value.code == 2
    assert "results cannot be written there (Not a directory); name another folder" in capsys.readouterr().err


def test_every_script_that_takes_a_place_is_among_them() -> None:
    taking = {path.relative_to(SCRIPTS).as_posix() for path in SCRIPTS.rglob("*.py") if 'add_argument("--out"' in path.read_text()}
    assert taking <= set(CASES)
