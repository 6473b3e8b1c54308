"""Exit codes are a promise to the scripts that call medadv."""

import signal

import pytest

from medadv.common import errors
from medadv.common.errors import ExitCode
from medadv.common.stop import Stop


def test_numbers_do_not_change() -> None:
    fixed = {"DONE": 0, "SPEC": 2, "QUARANTINED": 3, "FAILED": 4, "INTEGRITY": 5, "LOCKED": 75, "INTERRUPTED": 130, "TERMINATED": 143}
    assert fixed.items() <= {code.name: int(code) for code in ExitCode}.items()


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
