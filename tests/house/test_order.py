"""The files that tests/conftest.py has begin first are there."""

from pathlib import Path

from tests.conftest import LONGEST


def test_the_longest_files_are_there() -> None:
    tests = Path(__file__).resolve().parents[1]
    assert [name for name in LONGEST if not (tests / name).is_file()] == []
