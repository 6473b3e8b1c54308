"""Signals that ask a verb to stop. They only leave a note; whoever can stop without harm reads it."""

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from medadv.common.errors import ExitCode, StoppedError

SIGNALS = (signal.SIGTERM, signal.SIGINT, signal.SIGUSR1)
"""Termination, the keyboard, and what SLURM sends ahead of a preemption."""


@dataclass
class Stop:
    """The first signal that came, and how many there were: the second one ends the grace time."""

    signal: int | None = None
    count: int = 0

    def note(self, number: int) -> None:
        """A signal came."""
        self.signal = self.signal or number
        self.count += 1

    def error(self, kept: str) -> StoppedError:
        """What the command ends with: 130 for SIGINT, 143 for the others."""
        assert self.signal is not None
        code = ExitCode.INTERRUPTED if self.signal == signal.SIGINT else ExitCode.TERMINATED
        return StoppedError(f"stopped by {signal.Signals(self.signal).name}; {kept}", code)

    def check(self, kept: str = "nothing was begun") -> None:
        """Raise StoppedError when a signal came."""
        if self.signal is not None:
            raise self.error(kept)


@contextmanager
def stoppable() -> Iterator[Stop]:
    """Note signals for a while. Outside the main thread, where Python takes no handlers, nothing is noted."""
    stop = Stop()
    if threading.current_thread() is not threading.main_thread():
        yield stop
        return
    before = {number: signal.signal(number, lambda received, _: stop.note(received)) for number in SIGNALS}
    try:
        yield stop
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
