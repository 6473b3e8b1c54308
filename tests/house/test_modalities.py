"""What differs between modalities stands in one table a room: nothing else asks for one by name, and each has its row in all of them."""

import ast
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, get_args

import pytest

from medadv.datasets.guess import FIRST_LOOKS
from medadv.spec.modality import MODALITIES, Modality
from medadv_transforms import colour

ROOT = Path(__file__).resolve().parents[2]
NAMES = frozenset(get_args(Modality))
DEMO = ROOT / "pipeline" / "medadv" / "demo"
TABLES: dict[str, Mapping[str, Any]] = {
    "pipeline/medadv/spec/modality.py": MODALITIES,
    "pipeline/medadv/datasets/guess.py": FIRST_LOOKS,
    "transforms/medadv_transforms/colour.py": colour.PICTURE_RULES,
}
FOLDERS = (ROOT / "pipeline" / "medadv", ROOT / "transforms" / "medadv_transforms")
SOURCES = [path for folder in FOLDERS for path in sorted(folder.rglob("*.py")) if DEMO not in path.parents]


def is_name(node: ast.AST | None) -> bool:
    """A modality as a string, or a tuple, list or set that holds one."""
    if isinstance(node, ast.Tuple | ast.List | ast.Set):
        return any(is_name(part) for part in node.elts)
    return isinstance(node, ast.Constant) and node.value in NAMES


def branches(text: str) -> Iterator[tuple[int, str]]:
    """Lines that choose by the name of a modality, and how: a comparison (`in` and `match` too) or a table of one's own."""
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.Compare) and any(map(is_name, (node.left, *node.comparators))):
            yield node.lineno, "compared"
        if isinstance(node, ast.MatchValue) and is_name(node.value):
            yield node.value.lineno, "compared"
        if isinstance(node, ast.Dict) and any(map(is_name, node.keys)):
            yield node.lineno, "table"


@pytest.mark.parametrize(
    ("line", "how"),
    [
        ('if data.modality == "ct": ...', ["compared"]),
        ('x = 1 if "fundus" != modality else 3', ["compared"]),
        ('if modality in ("fundus", "endoscopy"): ...', ["compared"]),
        ('if modality not in {"ct"}: ...', ["compared"]),
        ('match modality:\n    case "ct" | "fundus": ...', ["compared", "compared"]),
        ('channels = {"ct": 1}.get(modality, 3)', ["table"]),
        ('Guess("dicom", "segmentation", "ct"); facts = {"modality": "ct"}; modality in (None, *MODALITIES)', []),
    ],
)
def test_branches_are_told_from_what_only_says_a_name(line: str, how: list[str]) -> None:
    assert [found for _, found in branches(line)] == how


def test_nothing_but_the_tables_asks_for_a_modality_by_name() -> None:
    found = {path.relative_to(ROOT).as_posix(): list(branches(path.read_text())) for path in SOURCES}
    assert {file: asked for file, asked in found.items() if file not in TABLES and asked} == {}
    assert {file: [how for _, how in found[file]] for file in TABLES} == {file: ["table"] for file in TABLES}


@pytest.mark.parametrize("file", TABLES)
def test_each_modality_has_its_row(file: str) -> None:
    assert TABLES[file].keys() == NAMES == set(get_args(colour.Modality))


def test_first_looks_choose_one_modality_a_task() -> None:
    assert sorted(task for look in FIRST_LOOKS.values() for task in look.likeliest_for) == ["classification", "detection", "segmentation"]


def test_contributing_names_the_tables() -> None:
    paragraph = re.split(r"\n\*\*A layout", (ROOT / "CONTRIBUTING.md").read_text().partition("**A modality.**")[2])[0]
    rows = re.findall(r"`([A-Z_]+)`\s+\(`([\w/.]+\.py)`\)", paragraph)
    assert [file for table, file in rows if table != "LATTICES"] == list(TABLES)
