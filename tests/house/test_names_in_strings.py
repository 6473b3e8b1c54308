"""Modules that are reached by name in a string are there: nothing else notices when one of them moves."""

import ast
import json
import re
import subprocess
import sys
import tomllib
from pathlib import Path

import medadv
import medadv_transforms

ROOT = Path(__file__).resolve().parents[2]
NAME = re.compile(r"\b(?<![\w./-])medadv(?:_transforms)?(?:\.[A-Za-z_]\w*)+(?::\w+)?")
IMPORT = re.compile(r"\bfrom (medadv(?:_transforms)?(?:\.\w+)*) import (\w+)")
FILE_NAMES = (".yaml", ".json", ".h5", ".html")
"""`medadv.yaml` is a file."""
FOLDERS = ("pipeline", "transforms", "scripts", "tests", "manifests")
FILES = (path for folder in FOLDERS for suffix in ("py", "sh", "md") for path in sorted((ROOT / folder).rglob(f"*.{suffix}")))
SOURCES = [path for path in FILES if path != Path(__file__).resolve()]
BY_NAME = {
    "medadv.run.signals",  # Dask's preload
    "medadv.run.forkserver",  # what local workers are forked from
    "medadv.run.worker",
    "medadv.run.suspects",  # python -m
    "medadv.run.keys",
    "medadv.evidence.probe",
    "medadv.report",  # its packaged files
}
RESOLVE = """
import json, pkgutil, sys
failed = {}
for name in json.load(sys.stdin):
    try:
        pkgutil.resolve_name(name)
    except Exception as error:
        failed[name] = f"{type(error).__name__}: {error}"
json.dump(failed, sys.stdout)
"""


def strings(path: Path) -> list[str]:
    """A document's text whole; of Python the string constants, docstrings among them, and the comments."""
    text = path.read_text()
    if path.suffix != ".py":
        return [text]
    constants = [node.value for node in ast.walk(ast.parse(text)) if isinstance(node, ast.Constant) and isinstance(node.value, str)]
    return [*constants, *re.findall(r"#.*", text)]


def named() -> dict[str, list[str]]:
    """Dotted names of ours that stand in strings, each with the files that hold it."""
    found: dict[str, list[str]] = {}
    for path in SOURCES:
        for text in strings(path):
            names = [name for name in NAME.findall(text) if not name.endswith(FILE_NAMES)]
            for name in [*names, *(f"{module}:{attribute}" for module, attribute in IMPORT.findall(text))]:
                found.setdefault(name, []).append(path.relative_to(ROOT).as_posix())
    for name in tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["scripts"].values():
        found.setdefault(name, []).append("pyproject.toml")
    for package in (medadv, medadv_transforms):
        for name, home in package._HOMES.items():
            found.setdefault(f"{package.__name__}.{home}:{name}", []).append(f"{package.__name__}/__init__.py")
    return found


def unresolved(names: list[str]) -> dict[str, str]:
    """Those that cannot be imported, and why. In a process of its own: what workers import first leaves signals to others."""
    command = [sys.executable, "-W", "ignore", "-c", RESOLVE]
    done = subprocess.run(command, input=json.dumps(names), capture_output=True, text=True, check=True)
    return json.loads(done.stdout)  # type: ignore[no-any-return]


def test_every_name_in_a_string_is_there() -> None:
    found = named()
    assert found.keys() >= BY_NAME | {"medadv.cli.app:main", "medadv.training.dataset:CorpusDataset"}, "the search misses some"
    assert {name: (why, found[name]) for name, why in unresolved(sorted(found)).items()} == {}


def test_a_name_that_is_not_there_is_told() -> None:
    assert unresolved(["medadv.run.signals", "medadv.drain", "medadv.cli:main"]).keys() == {"medadv.drain", "medadv.cli:main"}


def test_public_names_have_homes() -> None:
    for package in (medadv, medadv_transforms):
        assert set(package._HOMES) == set(package.__all__)
