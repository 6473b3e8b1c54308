"""What is said where nobody else knew what to say? One line; the traceback lies in a file, for who mends it."""

import os
import sys
import tempfile
import traceback
from importlib.metadata import PackageNotFoundError, version

from medadv.cli.console import say
from medadv.common.errors import ExitCode, MedadvError, first_line
from medadv.common.failures import explain


def told(error: BaseException) -> ExitCode:
    """Say what an error is, in one line on standard error; returns what the command line ends with."""
    known = error if isinstance(error, MedadvError) else explain(error)
    if known is not None:
        say(f"medadv: {known}")
        return ExitCode(known.exit_code)
    kept = _kept(error)
    where = f"its traceback is in {kept}" if kept else "its traceback could not be kept"
    say(f"medadv: an error of medadv itself, {type(error).__name__}: {first_line(error)}; {where}")
    return ExitCode.INTERNAL


def close_output() -> None:
    """Have standard output written now, while what goes wrong can still be told. OSError: it cannot be."""
    try:
        sys.stdout.flush()
    except OSError:
        # Python would try once more when it ends, and fail in its own words.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        raise


def _kept(error: BaseException) -> str | None:
    """A file for its owner alone: a traceback shows paths and values."""
    try:
        release = version("medadv")
    except PackageNotFoundError:
        release = "of a checkout"
    try:
        descriptor, path = tempfile.mkstemp(prefix="medadv-error-", suffix=".txt")
        with os.fdopen(descriptor, "w", errors="backslashreplace") as stream:
            stream.write(f"medadv {release}, Python {sys.version}\n{sys.argv}\n\n")
            stream.writelines(traceback.format_exception(error))
    except OSError:
        return None
    return path
