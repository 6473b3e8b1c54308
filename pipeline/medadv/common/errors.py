"""Failures that a user can meet, each with the exit code the command line ends with.

Anything that is not one of these is a bug: the command line says so in one line, and keeps its traceback in a file.
"""

from enum import IntEnum


class ExitCode(IntEnum):
    """What the command line ends with. Scripts rely on the numbers: they do not change."""

    DONE = 0
    """Done, or nothing new."""
    SPEC = 2
    """Wrong spec or arguments."""
    QUARANTINED = 3
    """Done, some inputs quarantined."""
    FAILED = 4
    INTEGRITY = 5
    """Something published differs from what was committed."""
    REQUIREMENT = 6
    """Done, and a model is not as robust as was required."""
    UNFINISHED = 7
    """Done what this call was to do, and more is left: call again."""
    INTERNAL = 70
    """An error of medadv itself (EX_SOFTWARE)."""
    LOCKED = 75
    """Another run holds the corpus (EX_TEMPFAIL of sysexits.h: try again later)."""
    INTERRUPTED = 130
    """Stopped by SIGINT; finished shards are kept."""
    TERMINATED = 143
    """Stopped by SIGTERM or SIGUSR1; finished shards are kept."""


class MedadvError(Exception):
    """An expected failure; its text is one line that says what is wrong and what to do next."""

    exit_code = ExitCode.FAILED


class SpecError(MedadvError):
    """The run spec, an argument or the victim it names is wrong."""

    exit_code = ExitCode.SPEC


class NothingFoundError(SpecError):
    """The data set holds no sample that can be used."""


class IntegrityError(MedadvError):
    """Something published differs from what was committed."""

    exit_code = ExitCode.INTEGRITY


class LockedError(MedadvError):
    """Another run holds the corpus."""

    exit_code = ExitCode.LOCKED


class RunError(MedadvError):
    """The run could not be finished: no space, no data root, no workers."""


class FetchError(MedadvError):
    """Something did not come from the address where it lies."""


class NotThereError(FetchError):
    """There is nothing under the address."""


class StoppedError(MedadvError):
    """A signal asked the run to stop; every finished shard is kept."""

    def __init__(self, message: str, exit_code: ExitCode) -> None:
        super().__init__(message)
        self.exit_code = exit_code


def named_line(error: BaseException) -> str:
    """The first line of what other people's code raised, behind its type: the text of many a KeyError or AssertionError says little."""
    text, kind = first_line(error), type(error).__name__
    return text if text == kind else f"{kind}: {text}"


def first_line(error: BaseException) -> str:
    """The first line of an error, short."""
    text = (str(error).strip().splitlines() or [type(error).__name__])[0]
    return text[:200]
