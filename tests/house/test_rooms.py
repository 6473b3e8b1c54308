"""The rule of the house: beside the rooms nothing, each room a question, each module a first line that answers or says its subject."""

import ast
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
HOUSE = ROOT / "pipeline" / "medadv"
ROOMS = sorted(path.name for path in HOUSE.iterdir() if (path / "__init__.py").exists())


def first_line(path: Path) -> str:
    return (ast.get_docstring(ast.parse(path.read_text())) or "").partition("\n")[0]


def test_beside_the_rooms_there_is_nothing_else() -> None:
    assert {path.name for path in HOUSE.iterdir() if path.is_file()} == {"__init__.py", "__main__.py", "py.typed"}


@pytest.mark.parametrize("room", ROOMS)
def test_a_room_is_a_question_that_the_readme_gives(room: str) -> None:
    question = first_line(HOUSE / room / "__init__.py").partition("?")[0]
    row = next(line for line in (ROOT / "pipeline" / "README.md").read_text().splitlines() if line.startswith(f"| `medadv/{room}/` |"))
    asked = row.split("|")[2].strip()
    assert asked.lower().rstrip("?") == question.lower(), f"{room}: {asked} is not {question}?"


def test_every_module_says_its_subject_in_its_first_line() -> None:
    for path in HOUSE.rglob("*.py"):
        line = first_line(path)
        assert line, path
        assert line[-1] in ".?:`" or path.name == "__main__.py", f"{path.relative_to(HOUSE)}: {line}"


def test_tests_lie_in_rooms_too() -> None:
    others = {"docs", "golden", "house", "transforms"}
    folders = {path.name for path in (ROOT / "tests").iterdir() if any(path.glob("test_*.py"))}
    assert folders <= {*ROOMS, *others}
