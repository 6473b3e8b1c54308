"""scripts/tutorials: the notebooks are stored as they ran, name nothing of the machine, and what they would print elsewhere is compared."""

import copy
import json
import re
import types
from pathlib import Path
from typing import Any

import pytest
import typer
from tests.conftest import load_script
from tests.docs.documents import ROOT, read

from medadv.cli.app import app

FOLDER = ROOT / "scripts" / "tutorials"
NOTEBOOKS = sorted(FOLDER.glob("*.ipynb"))
ABSOLUTE = re.compile(r"(?<![\w.:/<])/(?:[\w.-]+/)+[\w.-]*|[A-Z]:\\\\|file:")
MOST_BYTES = 600_000
VERBS: dict[str, Any] = typer.main.get_command(app).commands  # type: ignore[attr-defined]


@pytest.fixture(scope="module")
def execute() -> types.ModuleType:
    return load_script("tutorials/execute.py")


def cells(path: Path, kind: str = "code") -> list[dict[str, Any]]:
    return [cell for cell in json.loads(path.read_text())["cells"] if cell["cell_type"] == kind]


def printed(path: Path) -> str:
    """All that its cells print."""
    outputs = [output for cell in cells(path) for output in cell["outputs"]]
    return "\n".join("".join(output.get("text") or output.get("data", {}).get("text/plain", "")) for output in outputs)


def test_there_are_three_in_order() -> None:
    assert [path.name[:2] for path in NOTEBOOKS] == ["1-", "2-", "3-"]
    for path in NOTEBOOKS:
        assert path.name in read("scripts/README.md"), path.name


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.name)
def test_a_notebook_is_stored_as_it_ran(path: Path) -> None:
    found = cells(path)
    assert [cell["execution_count"] for cell in found] == list(range(1, len(found) + 1)), "run scripts/tutorials/run --write"
    assert not [output for cell in found for output in cell["outputs"] if output["output_type"] == "error"]
    assert sum("image/png" in output.get("data", {}) for cell in found for output in cell["outputs"]) >= 1
    assert path.stat().st_size < MOST_BYTES


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.name)
def test_a_notebook_names_nothing_of_the_machine(path: Path) -> None:
    assert ABSOLUTE.findall(printed(path)) == []
    assert not re.search(r"\x1b\[|\d+:\d\d:\d\d|GiB", printed(path)), "a terminal's codes, a clock, or the machine's memory"
    document = json.loads(path.read_text())
    assert set(document["metadata"]) == {"kernelspec", "language_info", "processor"}
    assert all(cell["metadata"] == {} for cell in document["cells"])


def test_an_absolute_path_would_be_found() -> None:
    for text in ("in /home/anna/work", "/tmp/x/corpora: 6 samples", "file:///a"):
        assert ABSOLUTE.search(text), text
    for text in ("work/corpora/spleen: 6 samples", "6/6", "attacks/pgd-8/perturbation", "https://github.com/a/b"):
        assert not ABSOLUTE.search(text), text


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.name)
def test_commands_and_files_that_a_notebook_names_are_there(path: Path) -> None:
    text = "\n".join("".join(cell["source"]) for kind in ("code", "markdown") for cell in cells(path, kind))
    for code in re.findall(r"`(medadv [^`\n]+)`|^(medadv .+)$", text, re.MULTILINE):
        verb, *words = "".join(code).split()[1:]
        known = {option for parameter in VERBS[verb].params for option in parameter.opts}
        assert {word for word in words if word.startswith("--")} <= known, code
    for name in re.findall(r"`((?:manifests|scripts)/[\w./-]+)`", text):
        assert (ROOT / name).exists(), name


def notebook(execute: types.ModuleType, text: str) -> Any:
    stream = {"output_type": "stream", "name": "stdout", "text": text}
    cell = {"cell_type": "code", "execution_count": 1, "metadata": {}, "source": "", "outputs": [stream], "id": "a"}
    document = {"cells": [cell], "metadata": {}, "nbformat": 4, "nbformat_minor": 5}
    return execute.nbformat.from_dict(copy.deepcopy(document))


@pytest.mark.parametrize(
    ("stored", "now", "differs", "exactly"),
    [
        ("dice 0.90", "dice 0.90", False, False),
        ("dice 0.90", "dice 0.86", False, True),
        ("dice 0.90", "dice 0.70", True, True),
        ("-11.592 to 10.5", "-10.9 to 10.6", False, True),
        ("6 samples", "7 samples", True, True),
        ("success 100% of 6", "success 83% of 6", False, True),
        ("success 100% of 6", "success 50% of 6", True, True),
        ("clean 0.9", "clean n/a", True, True),
        (f"root {'0a' * 32}", f"root {'1b' * 32}", False, False),
        ("in 3.2 s", "in 70 s", False, False),
    ],
)
def test_what_is_printed_elsewhere_is_compared(stored: str, now: str, differs: bool, exactly: bool, execute: types.ModuleType) -> None:
    before, after = notebook(execute, stored), notebook(execute, now)
    assert bool(list(execute.differences(before, after))) is differs
    assert bool(list(execute.differences(before, after, exact=True))) is exactly


@pytest.mark.parametrize(
    ("stored", "now", "differs"),
    [
        ("dice 0.90", "dice 0.10", False),
        ("chosen: generation 1. Its Dice is the highest.", "chosen: generation 3. Every generation's falls.", False),
        ("dice clean 0.9; halves at 7.37 (6.72 to 7.99)", "dice clean 0.9; halves at > 8 (> 8 to > 8)", False),
        ("dice clean 0.9", "auc clean 0.9", True),
        ("6 samples", "7 samples", True),
        ("clean 0.9", "clean n/a", True),
    ],
)
def test_of_another_makers_processor_words_are_held(stored: str, now: str, differs: bool, execute: types.ModuleType) -> None:
    before, after = notebook(execute, stored), notebook(execute, now)
    before.metadata["processor"], after.metadata["processor"] = "AuthenticAMD", "GenuineIntel"
    assert bool(list(execute.differences(before, after))) is differs
    after.metadata["processor"] = "AuthenticAMD"
    assert bool(list(execute.differences(before, after))) is (stored != now)


def test_what_the_machine_added_is_taken_away(execute: types.ModuleType, tmp_path: Path) -> None:
    progress = "making shards: 1 of 1\ntraining, control: 1 of 3 (epoch 9)\ngeneration-001/corpus: 1 of 1 (shards)\n"
    machine = f"{progress}2 workers with 1 thread each, at most 9 GiB of memory each\n"
    ran = notebook(execute, f"{tmp_path}/work/corpora: 6 samples\n{machine}")
    ran.metadata["papermill"] = {"start": "12:00"}
    ran.cells[0].outputs.append(execute.new_output("stream", name="stdout", text=f"more in {tmp_path}"))
    ran.cells[0].outputs.append(execute.new_output("stream", name="stdout", text="/work\n"))
    (cell,) = execute.cleaned(ran, tmp_path).cells
    assert [output.text for output in cell.outputs] == ["work/corpora: 6 samples\nmore in work\n"]
    assert set(ran.metadata) == {"kernelspec", "language_info", "processor"}
