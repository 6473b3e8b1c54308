"""Exit codes are a promise to the scripts that call medadv."""

import re
import signal
from pathlib import Path

import pytest

from medadv.cli.app import app
from medadv.common import errors
from medadv.common.errors import ExitCode
from medadv.common.stop import Stop


def test_numbers_do_not_change() -> None:
    fixed = {"DONE": 0, "SPEC": 2, "QUARANTINED": 3, "FAILED": 4, "INTEGRITY": 5, "INTERNAL": 70, "LOCKED": 75}
    fixed |= {"INTERRUPTED": 130, "TERMINATED": 143}
    assert fixed.items() <= {code.name: int(code) for code in ExitCode}.items()


def test_readme_and_help_name_each() -> None:
    root = Path(__file__).resolve().parents[2]
    rows = re.findall(r"^\| ([\d, ]+) \|", (root / "README.md").read_text(), re.MULTILINE)
    named = {int(number) for row in rows for number in row.split(",")}
    assert named == set(map(int, ExitCode))
    told = (app.info.help or "").partition("Exit codes:")[2]
    assert {int(number) for number in re.findall(r"\d+", told)} == named


@pytest.mark.parametrize(
    ("error", "expected"),
    [
        (errors.MedadvError, 4),
        (errors.SpecError, 2),
        (errors.IntegrityError, 5),
        (errors.LockedError, 75),
        (errors.RunError, 4),
    ],
)
def test_errors_have_them(error: type[errors.MedadvError], expected: int) -> None:
    assert error("x").exit_code == expected


@pytest.mark.parametrize(("number", "expected"), [(signal.SIGINT, 130), (signal.SIGTERM, 143), (signal.SIGUSR1, 143)])
def test_signals_have_them(number: int, expected: int) -> None:
    stop = Stop()
    stop.note(number)
    assert stop.error("kept").exit_code == expected
