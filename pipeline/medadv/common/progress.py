"""Who is told how far the work is?"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol


class Progress(Protocol):
    """Where work says how far it is."""

    def __call__(self, phase: str, done: int, total: int, text: str = "") -> None:
        """So much of a phase ("inputs", "shards", "verify") is done; text stands beside it."""

    def message(self, text: str) -> None:
        """A line of its own."""


class Silent:
    """Progress that nobody watches."""

    def __call__(self, phase: str, done: int, total: int, text: str = "") -> None:
        pass

    def message(self, text: str) -> None:
        pass


SILENT = Silent()


@dataclass(frozen=True)
class Passing:
    """Progress on its way to somebody else. phase: what every phase is called there.  first: called before, and may raise to stop."""

    to: Progress
    phase: str | None = None
    first: Callable[[], None] | None = None

    def __call__(self, phase: str, done: int, total: int, text: str = "") -> None:
        if self.first is not None:
            self.first()
        self.to(self.phase or phase, done, total, text)

    def message(self, text: str) -> None:
        self.to.message(text)
