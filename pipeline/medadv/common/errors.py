"""Failures that a user can meet, each with the exit code the command line ends with.

Anything that is not one of these is a bug and shows its traceback.
"""



class MedadvError(Exception):
    """An expected failure; its text is one line that says what is wrong and what to do next."""

    exit_code = 4


class SpecError(MedadvError):
    """The run spec, an argument or the victim it names is wrong."""

    exit_code = 2


class IntegrityError(MedadvError):
    """Something published differs from what was committed."""

    exit_code = 5


class LockedError(MedadvError):
    """Another run holds the corpus."""

    exit_code = 75


class RunError(MedadvError):
    """The run could not be finished: no space, no data root, no workers."""

    exit_code = 4


class StoppedError(MedadvError):
    """A signal asked the run to stop; every finished shard is kept."""

    def __init__(self, message: str, exit_code: int) -> None:
        super().__init__(message)
        self.exit_code = exit_code


def first_line(error: BaseException) -> str:
    """The first line of an error, short."""
    text = (str(error).strip().splitlines() or [type(error).__name__])[0]
    return text[:200]
