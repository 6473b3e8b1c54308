"""The command line as a newcomer meets it: --help that teaches and answers at once, completion, and nothing but text in pipes."""

import os
import re
import subprocess
import sys
from importlib.metadata import version
from pathlib import Path

import pytest
import typer
from typer.testing import CliRunner

from medadv.cli.app import app

VERBS = sorted(typer.main.get_command(app).commands)  # type: ignore[attr-defined]
HEAVY = ("torch", "monai", "dask", "distributed", "h5py", "torchvision", "matplotlib", "scipy", "nibabel", "pydicom")
LOADED = f"""
import sys
sys.argv[0] = "medadv"
from medadv.cli.app import main
try:
    main()
finally:
    found = [name for name in {HEAVY!r} if name in sys.modules]
    print("LOADED", *found, file=sys.stderr)
"""


def medadv(*words: str, **variables: str) -> subprocess.CompletedProcess[str]:
    """Run the command line in a process of its own; its last line on standard error names the heavy packages that it imported."""
    environment = {**os.environ, "TERM": "xterm-256color", **variables}
    command = [sys.executable, "-c", LOADED, *words]
    return subprocess.run(command, capture_output=True, text=True, check=False, timeout=60, env=environment)


def test_help_imports_nothing_heavy_and_puts_no_colours_into_pipes() -> None:
    answer = medadv("--help")
    assert answer.returncode == 0
    assert answer.stderr.split("LOADED")[1].split() == []
    assert "\x1b" not in answer.stdout + answer.stderr
    assert all(re.search(rf"^\s+{verb}\b", answer.stdout, re.MULTILINE) for verb in VERBS)


def test_version_is_that_of_the_installed_package() -> None:
    answer = medadv("--version")
    assert (answer.returncode, answer.stdout) == (0, f"medadv {version('medadv')}\n")
    assert answer.stderr.split("LOADED")[1].split() == []
    # It comes before the verb, and nothing else is done.
    answer = medadv("--version", "run", "nothing.yaml")
    assert (answer.returncode, answer.stdout) == (0, f"medadv {version('medadv')}\n")


@pytest.mark.parametrize("verb", VERBS)
def test_every_verb_teaches_by_an_example_that_its_own_options_accept(verb: str) -> None:
    answer = CliRunner().invoke(app, [verb, "--help"], env={"COLUMNS": "200"})
    assert answer.exit_code == 0
    assert "\x1b" not in answer.output
    examples = re.findall(rf"medadv {verb}\b[^\n]*", answer.output.split("Options:")[0])
    assert examples, f"medadv {verb} --help has no example"
    known = {option for parameter in typer.main.get_command(app).commands[verb].params for option in parameter.opts}  # type: ignore[attr-defined]
    for example in examples:
        assert set(re.findall(r"(?<![\w-])--[a-z][a-z-]*", example)) <= known, example
    # Every option says what it is for.
    for parameter in typer.main.get_command(app).commands[verb].params:  # type: ignore[attr-defined]
        assert getattr(parameter, "help", None) or parameter.name == "help", f"medadv {verb}: {parameter.name} has no help"


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_completion_scripts_are_printed_and_complete_verbs(shell: str) -> None:
    answer = medadv("--show-completion", shell, _TYPER_COMPLETE_TEST_DISABLE_SHELL_DETECTION="1")
    assert answer.returncode == 0
    assert "_MEDADV_COMPLETE" in answer.stdout.upper().replace("-C_", "_")
    assert answer.stderr.split("LOADED")[1].split() == []


def test_a_tab_completes_without_importing_torch() -> None:
    answer = medadv("x", _MEDADV_COMPLETE="complete_bash", COMP_WORDS="medadv re", COMP_CWORD="1")
    assert set(answer.stdout.split()) == {"report", "reproduce"}
    assert answer.stderr.split("LOADED")[1].split() == []


def test_a_wrong_spec_is_one_line_without_colours(tmp_path: Path) -> None:
    (tmp_path / "spec.yaml").write_text("name: x\n")
    answer = medadv("plan", str(tmp_path / "spec.yaml"))
    lines = answer.stderr.split("LOADED")[0].strip().splitlines()
    assert answer.returncode == 2
    assert "\x1b" not in answer.stdout + answer.stderr
    assert "Traceback" not in answer.stderr
    assert lines
    assert lines[0].startswith("medadv: ")
