"""Can results be written there? Asked before the work that makes them, not after."""

import os
import secrets
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from medadv.common.errors import SpecError


def writable_folder(folder: Path) -> Path:
    """The folder, made where it is missing, after a file was written in it and taken away again.

    Raises SpecError: it cannot be made, or holds no new file.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder) as file:
            file.write(b"\0")
    except OSError as error:
        raise SpecError(f"{folder}: results cannot be written there ({error.strerror}); name another folder") from None
    return folder


def writable_file(path: Path) -> Path:
    """The path of a file that may be written or written anew, in a folder that is made where it is missing.

    Raises SpecError: a folder has that name, its own folder cannot be written to, or the file that is there may not be changed.
    """
    if path.is_dir():
        raise SpecError(f"{path}: a folder; name a file")
    writable_folder(path.parent)
    if path.exists():
        try:
            path.open("r+b").close()
        except OSError as error:
            raise SpecError(f"{path}: cannot be written anew ({error.strerror}); name another file") from None
    return path


@contextmanager
def all_or_nothing(folder: Path) -> Iterator[Path]:
    """A new folder inside `folder`, whose files and folders are moved there in the end; where something fails, nothing of them is left.

    Files of the same names are replaced.  SpecError as from `writable_folder`.
    """
    made = writable_folder(folder) / f".tmp-{secrets.token_hex(4)}"
    made.mkdir()
    try:
        yield made
        for path in sorted(made.iterdir()):
            path.rename(folder / path.name)
    finally:
        shutil.rmtree(made, ignore_errors=True)


def sync(path: Path) -> None:
    """fsync a file or folder."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


_writing: Path | None = None
"""Where this process makes files before they get their names, while `writing_in` says so; beside their names otherwise."""


@contextmanager
def writing_in(folder: Path) -> Iterator[None]:
    """Have `temporary`, `write_file` and `remove` work through a folder on the same disk, for this process.

    Whoever moves that folder away keeps the process from naming, replacing and removing files there and then: a rename is one step, and
    fails without its source or its aim, where a look beforehand would leave a moment between looking and doing.
    """
    global _writing
    before, _writing = _writing, folder
    try:
        yield
    finally:
        _writing = before


def temporary(final: Path) -> Path:
    """A path at which to make what is published as `final`."""
    unique = f"{final.name}-{secrets.token_hex(4)}"
    return final.with_name(f".tmp-{unique}") if _writing is None else _writing / unique


def own(path: Path) -> Path:
    """A path of that name that only those know who write through the same folder."""
    return path if _writing is None else _writing / path.name


def remove(path: Path) -> None:
    """Delete a file if it is there. FileNotFoundError: it is, and the folder of `writing_in` is not."""
    if not os.path.lexists(path):
        return
    aside = temporary(path)
    path.rename(aside)
    aside.unlink(missing_ok=True)


def publish(temporary: Path, final: Path) -> None:
    """Give a finished file its name; an existing file of that name is replaced in one step, and the folder is flushed."""
    temporary.replace(final)
    sync(final.parent)


def write_file(final: Path, data: bytes, *, mode: int = 0o666) -> None:
    """Write a small file atomically: temporary name, fsync, rename. mode: what others may do with it, less the umask."""
    made = temporary(final)
    try:
        with os.fdopen(os.open(made, os.O_WRONLY | os.O_CREAT | os.O_EXCL, mode), "wb") as stream:
            stream.write(data)
            stream.flush()
            os.fsync(stream.fileno())
        publish(made, final)
    finally:
        made.unlink(missing_ok=True)
