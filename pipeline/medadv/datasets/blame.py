"""Tell an input that is bad from a disk, a network or a memory that fails: only the first may be quarantined."""

import errno

ABOUT_THE_INPUT = {errno.ENOENT, errno.ENOTDIR, errno.EISDIR, errno.EACCES, errno.EPERM, errno.ELOOP, errno.ENAMETOOLONG, errno.EINVAL}
"""System errors that say something of the file. Any other says something of the machine, and condemns no input."""


def raise_unless_input(error: BaseException) -> None:
    """Raise what lies behind a refusal when that is a failing machine: readers refuse a file whatever went wrong while they read it."""
    behind: BaseException | None = error
    while behind is not None:
        if isinstance(behind, MemoryError) or (
            isinstance(behind, OSError) and behind.errno is not None and behind.errno not in ABOUT_THE_INPUT
        ):
            raise behind
        behind = behind.__cause__ or behind.__context__
