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


def explain(error: BaseException, where: Path) -> MedadvError | None:
    """An expected failure for a system error or want of memory, None for what is a bug. `where` is the corpus folder."""
    if isinstance(error, MemoryError) or (isinstance(error, RuntimeError) and _about_memory(str(error))):
        return RunError(f"out of memory; {MEMORY_ADVICE}")
    number = error_number(error) if isinstance(error, OSError) else None
    if number is None and isinstance(error, RuntimeError):
        # h5py raises RuntimeError when a file cannot be closed, and names the reason only in the text.
        found = re.search(r"errno = (\d+)", str(error))
        number = int(found.group(1)) if found else None
    if number is None:
        return None
    name = getattr(error, "filename", None) or where
    if number in (errno.ENOSPC, errno.EDQUOT):
        return RunError(f"no space left for {where}: free some and run again; every finished shard is kept")
    if number in (errno.EROFS, errno.EACCES, errno.EPERM):
        return RunError(f"{name} cannot be written or read ({os.strerror(number)}); every finished shard is kept")
    return RunError(f"{name}: {os.strerror(number)}; every finished shard is kept, run again to go on")


def _about_memory(text: str) -> bool:
    return "out of memory" in text.lower() or "can't allocate memory" in text or "not enough memory" in text
