"""How does a file get onto the disk whole? Flushed, renamed, and its folder flushed."""

import os
import secrets
from pathlib import Path


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


def write_file(final: Path, data: bytes) -> None:
    """Write a small file atomically: temporary name beside it, fsync, rename."""
    temporary = final.with_name(f".tmp-{final.name}-{secrets.token_hex(4)}")
    try:
        with temporary.open("wb") as stream:
            stream.write(data)
            stream.flush()
            os.fsync(stream.fileno())
        publish(temporary, final)
    finally:
        temporary.unlink(missing_ok=True)
