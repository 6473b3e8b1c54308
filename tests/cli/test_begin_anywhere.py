"""What `medadv init` brings: templates that become a user's own, schedules with the paths of this installation, from checkout and wheel."""

import os
import re
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest
from typer.testing import CliRunner

from medadv.cli.app import app
from medadv.common import shipped as place
from medadv.common.errors import SpecError
from medadv.common.shipped import IN_CHECKOUT, nearest, shipped
from medadv.run.schedules import README, SCHEDULES, medadv_path
from medadv.spec.reading import load_spec
from medadv.spec.templates import find_template, template_names

ROOT = Path(__file__).resolve().parents[2]


def init(*words: str) -> str:
    answer = CliRunner().invoke(app, ["init", *words], standalone_mode=False)
    if answer.exception is not None:
        raise answer.exception
    return answer.output


@pytest.mark.parametrize("name", template_names())
def test_every_template_becomes_a_spec_of_the_users_own(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    said = init("--template", name, "--out", "specs/mine.yaml")
    assert "medadv plan specs/mine.yaml" in said
    theirs, mine = load_spec(shipped("specs") / f"{name}.yaml"), load_spec(Path("specs/mine.yaml"))
    assert not any(str(path).startswith("..") for path in (mine.data.path, mine.victim.weights, mine.output))
    # Beside paths nothing is another.
    ours = {"path": theirs.data.path}
    assert mine.data.model_copy(update=ours) == theirs.data
    assert mine.victim.model_copy(update={"weights": theirs.victim.weights}) == theirs.victim
    assert (mine.attacks, mine.preprocess, mine.execution) == (theirs.attacks, theirs.preprocess, theirs.execution)
    text = Path("specs/mine.yaml").read_text()
    assert [key for key in re.findall(r"^\s*(\w+): .*<- ", text, re.MULTILINE) if key != "output"] == ["path", "licence", "weights"]


def test_a_template_reads_the_folder_that_is_given(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "frames").mkdir()
    monkeypatch.chdir(tmp_path)
    init("frames", "--template", "polyps", "--out", "specs/mine.yaml")
    assert load_spec(Path("specs/mine.yaml")).data.path == "../frames/annotations_coco.json"
    init("frames", "--template", "covid")
    assert load_spec(Path("medadv.yaml")).data.path == "frames"
    with pytest.raises(SpecError, match=r"medadv\.yaml: exists already"):
        init("--template", "covid")


def test_a_name_is_found_by_its_words_or_all_are_told() -> None:
    names = ["covid-19-ct-lung", "lung-slices", "polyp-detection"]
    assert [nearest(word, names) for word in ("polyps", "polyp-detection", "Slices", "lung", "x", "")] == [
        ["polyp-detection"],
        ["polyp-detection"],
        ["lung-slices"],
        ["covid-19-ct-lung", "lung-slices"],
        [],
        [],
    ]
    with pytest.raises(SpecError, match=r"--template retina: is none of the templates; take aptos-2019, .*, polyp-detection$"):
        find_template("retina")
    with pytest.raises(SpecError, match=r"--template lung: is several of the templates; take covid-19-ct-lung, lung-dicom, lung-slices$"):
        find_template("lung")


@pytest.mark.parametrize(
    ("words", "says"),
    [
        ([], "nothing to begin with"),
        (["--schedule", "pbs"], "--schedule pbs: take slurm, jobqueue, cron, systemd"),
        (["--schedule", "cron", "--template", "polyps"], "goes without"),
        (["--template", "polyps", "--modality", "ct"], "goes without --modality"),
        (["nowhere", "--template", "polyps"], "nowhere: no such folder"),
    ],
)
def test_what_does_not_go_together_is_refused(words: list[str], says: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(SpecError, match=says):
        init(*words)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("name", SCHEDULES)
def test_a_schedule_is_written_with_the_paths_of_here(name: str, tmp_path: Path) -> None:
    folder = tmp_path / "jobs"
    said = init("--schedule", name, "--out", str(folder))
    assert {path.name for path in folder.iterdir()} == {*SCHEDULES[name], README}
    assert str(folder) in said.splitlines()[-1]
    for file in SCHEDULES[name]:
        text = (folder / file).read_text()
        assert os.access(folder / file, os.X_OK) == text.startswith("#!"), file
        assert "/opt/medadv" not in text
        assert ("nightly" not in SCHEDULES[name]) or file == "nightly" or medadv_path() in text or file.endswith(".timer")
    if name == "cron":
        assert f" nice {folder / 'nightly'} " in (folder / "crontab").read_text()
    with pytest.raises(SpecError, match="exists already"):
        init("--schedule", name, "--out", str(folder))


def test_a_path_that_cron_or_systemd_would_misread_is_refused(tmp_path: Path) -> None:
    for name in ("cron", "systemd"):
        with pytest.raises(SpecError, match=r"/50% of it/nightly: cron and systemd .* name another folder"):
            init("--schedule", name, "--out", str(tmp_path / "50% of it"))
    assert list(tmp_path.iterdir()) == []
    init("--schedule", "slurm", "--out", str(tmp_path / "50% of it"))


def test_the_wheel_takes_every_file_from_the_one_place_where_it_stands() -> None:
    taken = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["hatch"]["build"]["targets"]["wheel"]["force-include"]
    schedule = {f"{IN_CHECKOUT['schedule']}/{file}" for files in SCHEDULES.values() for file in (*files, README)}
    assert set(taken) == {IN_CHECKOUT["specs"], *schedule}
    for source, target in taken.items():
        kind = next(kind for kind, folder in IN_CHECKOUT.items() if source.startswith(folder))
        assert target == f"medadv/{place.IN_WHEEL}/{kind}{source.removeprefix(IN_CHECKOUT[kind])}"
    # What is made from an sdist is the same wheel.
    held = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["hatch"]["build"]["targets"]["sdist"]["include"]
    assert all(any(source.startswith(part) for part in held) for source in taken)


def test_what_lies_in_the_package_is_taken_before_the_checkout(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(place, "PACKAGE", tmp_path / "site" / "medadv")
    with pytest.raises(SpecError, match="manifests/specs did not come with this medadv"):
        shipped("specs")
    (tmp_path / "site" / "medadv" / "shipped" / "specs").mkdir(parents=True)
    assert shipped("specs") == tmp_path / "site" / "medadv" / "shipped" / "specs"


def test_epsilons_of_the_specs_stand_beside_the_noise_of_their_images() -> None:
    for path in sorted(shipped("specs").glob("*.yaml")):
        before, attacks, _ = path.read_text().partition("\nattacks:\n")
        assert attacks, path.name
        assert re.search(r"\n# [^\n]*[Nn]oise[^\n]*(\n# [^\n]*)*$", before), path.name


def test_schedules_and_templates_complete() -> None:
    environment = {**os.environ, "_MEDADV_COMPLETE": "complete_bash", "COMP_WORDS": "medadv init --template po", "COMP_CWORD": "3"}
    command = [sys.executable, "-c", "import sys; sys.argv[0] = 'medadv'; from medadv.cli.app import main; main()"]
    answer = subprocess.run(command, capture_output=True, text=True, check=False, timeout=60, env=environment)
    assert (answer.stdout.split(), answer.stderr) == (["polyp-detection"], "")
