"""Failures of the machine as one line that says what to do: disks, memory, networks."""

import errno
import os
import re
from pathlib import Path

from medadv.common.errors import MedadvError, RunError

PASSING = {errno.EIO, errno.EAGAIN, errno.EBUSY, errno.ETIMEDOUT, errno.ESTALE, errno.ECONNRESET, errno.EREMOTEIO, errno.EINTR}
"""System errors that a second try may not meet."""
MEMORY_ADVICE = (
    "finished shards are kept. Start again with fewer workers (--set execution.workers=1), which changes no bits; if one worker is too "
    "many, make another corpus (--out DIR) with a smaller execution.batch_size, or a smaller preprocess.size"
)


def error_number(error: OSError) -> int | None:
    """errno, which HDF5 gives in its text alone."""
    if error.errno is not None:
        return error.errno
    found = re.search(r"errno = (\d+)", str(error))
    return int(found.group(1)) if found else None


def passing(error: OSError) -> bool:
    """Whether trying again may help."""
    return error_number(error) in PASSING


def explain(error: BaseException, where: Path | None = None) -> MedadvError | None:
    """An expected failure for a system error or want of memory, threads or files; None for what is a bug.

    where: the corpus that is made, whose finished shards are kept; None where none is.
    """
    kept = "" if where is None else "; every finished shard is kept"
    if _about_memory(error):
        return RunError(f"out of memory; {MEMORY_ADVICE if where is not None else 'this process needs more than it may take here'}")
    if _about_threads(error):
        return RunError(f"no more threads or processes may be started here; raise the limit (ulimit -u), or take fewer of them{kept}")
    number = error_number(error) if isinstance(error, OSError) else None
    if number is None and isinstance(error, RuntimeError):
        # h5py raises RuntimeError when a file cannot be closed, and names the reason only in the text.
        found = re.search(r"errno = (\d+)", str(error))
        number = int(found.group(1)) if found else None
    if number is None:
        return None
    name = getattr(error, "filename", None) or where or "a file"
    if number in (errno.ENOSPC, errno.EDQUOT):
        return RunError(f"no space left for {where or name}: free some and run again{kept}")
    if number in (errno.EMFILE, errno.ENFILE):
        return RunError(f"too many open files; raise the limit (ulimit -n){kept}")
    if number in (errno.EROFS, errno.EACCES, errno.EPERM):
        return RunError(f"{name} cannot be written or read ({os.strerror(number)}){kept}")
    return RunError(f"{name}: {os.strerror(number)}{kept + ', run again to go on' if kept else ''}")


def _about_memory(error: BaseException) -> bool:
    if isinstance(error, MemoryError):
        return True
    if isinstance(error, OSError) and error_number(error) == errno.ENOMEM:
        return True
    text = str(error).lower()
    # A library that finds no room for its code is no missing library.
    no_room = "failed to map segment" in text or "cannot allocate memory" in text
    ran_out = "out of memory" in text or "can't allocate memory" in text or "not enough memory" in text or "bad_alloc" in text
    return (isinstance(error, ImportError | OSError) and no_room) or (isinstance(error, RuntimeError) and (ran_out or no_room))


def _about_threads(error: BaseException) -> bool:
    # A fork that was refused names no file; a file that is busy does.
    refused = isinstance(error, OSError) and error.errno == errno.EAGAIN and error.filename is None
    return refused or (isinstance(error, RuntimeError) and "can't start new thread" in str(error))
