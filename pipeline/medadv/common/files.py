"""Can results be written there? Asked before the work that makes them, not after."""

import os
import secrets
import tempfile
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


def sync(path: Path) -> None:
    """fsync a file or folder."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def publish(temporary: Path, final: Path) -> None:
    """Give a finished file its name; an existing file of that name is replaced in one step, and the folder is flushed."""
    temporary.replace(final)
    sync(final.parent)


def write_file(final: Path, data: bytes, *, mode: int = 0o666) -> None:
    """Write a small file atomically: temporary name beside it, fsync, rename. mode: what others may do with it, less the umask."""
    temporary = final.with_name(f".tmp-{final.name}-{secrets.token_hex(4)}")
    try:
        with os.fdopen(os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL, mode), "wb") as stream:
            stream.write(data)
            stream.flush()
            os.fsync(stream.fileno())
        publish(temporary, final)
    finally:
        temporary.unlink(missing_ok=True)
