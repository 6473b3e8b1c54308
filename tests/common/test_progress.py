"""Progress on its way: phases renamed, stops heard before anything is shown, messages passed on; and how the console shows both."""

import pytest

from medadv.cli.console import Reporter, reporter
from medadv.common.errors import StoppedError
from medadv.common.progress import Passing, Silent
from medadv.common.stop import Stop


class Seen(Silent):
    def __init__(self) -> None:
        self.steps: list[tuple[str, int, int, str]] = []
        self.lines: list[str] = []

    def __call__(self, phase: str, done: int, total: int, text: str = "") -> None:
        self.steps.append((phase, done, total, text))

    def message(self, text: str) -> None:
        self.lines.append(text)


def test_phases_are_renamed_and_messages_are_not() -> None:
    seen = Seen()
    shown = Passing(seen, "corpus ct")
    shown("shards", 1, 2, "beside")
    shown.message("a line")
    assert (seen.steps, seen.lines) == ([("corpus ct", 1, 2, "beside")], ["a line"])


def test_a_stop_is_heard_before_the_step_is_shown() -> None:
    seen, stop = Seen(), Stop()
    shown = Passing(seen, first=stop.check)
    shown("inputs", 1, 2)
    stop.note(15)
    with pytest.raises(StoppedError):
        shown("inputs", 2, 2)
    assert seen.steps == [("inputs", 1, 2, "")]


def test_a_message_is_a_line_whatever_was_shown_before(capfd: pytest.CaptureFixture[str]) -> None:
    show = Reporter(None)
    show("shards", 1, 9)
    show.message("2 workers")
    show("shards", 2, 9)
    # Steps within ten seconds of the last line are not worth one of their own.
    assert capfd.readouterr().err == "2 workers\n"


def test_no_bar_goes_into_a_pipe_that_is_told_to_be_colourful(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    # Jupyter's kernels set it for every command that a notebook starts.
    monkeypatch.setenv("FORCE_COLOR", "1")
    with reporter() as show:
        show("shards", 1, 1)
        show.message("a line")
    assert capsys.readouterr().err == "a line\n"
