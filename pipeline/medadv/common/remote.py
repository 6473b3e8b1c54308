"""How do files come here that lie on no disk of this machine? Addresses without their secrets, and downloads that are taken up again."""

import hashlib
import os
import re
import time
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, BinaryIO

from medadv.common.errors import FetchError, IntegrityError, NotThereError, SpecError
from medadv.common.hashing import BLOCK

SCHEME = re.compile(r"([A-Za-z][A-Za-z0-9+.-]*)://")
TRIES = 5
"""In a row without a byte that is new."""
PAUSE_S = 0.2
"""Before the second try; twice as long before each further one."""
SILENT_S = 60
"""After which a server that sends nothing is taken for gone."""
REQUEST = 8 << 20
"""Bytes that are asked for at a time where a file does not come as one stream."""
AGAIN = (408, 425, 429)
"""Answers of HTTP below 500 after which asking again may help."""
BEYOND = 416
"""Answer of HTTP to who asks for bytes behind the end."""
ADVICE = "pip install 'medadv[remote]'"


def is_remote(place: object) -> bool:
    """Whether somebody means an address (https://…, s3://…) and no path."""
    return isinstance(place, str) and SCHEME.match(place) is not None


@dataclass(frozen=True, repr=False)
class Address:
    """A folder somewhere, as fsspec knows it. Only `url` has what may be secret: user, password and query."""

    folder: str
    query: str

    @classmethod
    def of(cls, text: str, last: str) -> "Address":
        """From how a user writes it: the folder, or the file called `last` in it. What stands behind `?` goes to every file."""
        bare, mark, query = text.partition("#")[0].partition("?")
        return cls(bare.rstrip("/").removesuffix(f"/{last}").rstrip("/"), mark + query)

    def url(self, name: str) -> str:
        """Of a file in it, for fsspec alone: it may hold a password."""
        return f"{self.folder}/{name}{self.query}"

    def shown(self, name: str = "") -> str:
        """For people: without user, password and query."""
        scheme, _, rest = self.folder.partition("://")
        host, slash, path = rest.partition("/")
        return f"{scheme}://{host.rpartition('@')[2]}{slash}{path}" + (f"/{name}" if name else "")

    def __repr__(self) -> str:
        return f"Address({self.shown()!r})"


def read_small(address: Address, name: str, most: int, *, tries: int = TRIES) -> bytes:
    """A file of at most so many bytes.  Raises FetchError; IntegrityError where it is longer."""
    data = bytearray()
    for at, block in _blocks(address, name, 0, most + 1, None, tries):
        del data[at:]
        data += block
    if len(data) > most:
        raise IntegrityError(f"{address.shown(name)}: longer than {most} bytes")
    return bytes(data)


def copy(address: Address, name: str, target: BinaryIO, most: int) -> None:
    """The first `most` bytes of a file, whatever they are.  Raises FetchError."""
    for at, block in _blocks(address, name, 0, most, None, TRIES):
        target.seek(at)
        target.write(block)
    target.flush()


def fetch(address: Address, name: str, target: BinaryIO, size: int, sha256: str) -> None:
    """A file whose size and hash are known.

    target: open for reading and writing; what it holds already is what an earlier try got, and stays there for a later one.
    Raises FetchError where it does not come, IntegrityError, with nothing left in the target, where it is another file.
    """
    for _ in range(2):
        begun, found = _goes_on(address, name, target, size)
        if target.tell() == size and found == sha256:
            return
        told = f"{target.tell() if target.tell() <= size else f'more than {size}'} bytes" if target.tell() != size else f"SHA-256 {found}"
        target.seek(0)
        target.truncate()
        if not begun:
            break
        # What was there before may be of another file that had the name then.
    expected = f"{size} bytes" if told.endswith("bytes") else f"SHA-256 {sha256}"
    raise IntegrityError(
        f"{address.shown(name)}: expected {expected}, found {told}: damaged, or the corpus was made anew since its manifest was read"
    )


def _goes_on(address: Address, name: str, target: BinaryIO, size: int) -> tuple[bool, str]:
    """Whether something was there before, and the SHA-256 of all that is there now; the target stands at its end."""
    digest = hashlib.sha256()
    target.seek(0)
    while part := target.read(BLOCK):
        digest.update(part)
    begun = start = target.tell()
    if start < size:
        for at, block in _blocks(address, name, start, size + 1, size, TRIES):
            if at != target.tell():  # from the beginning again
                target.seek(at)
                target.truncate()
                digest = hashlib.sha256()
            target.write(block)
            digest.update(block)
    target.flush()
    return begun > 0, digest.hexdigest()


def _blocks(address: Address, name: str, at: int, most: int, size: int | None, tries: int) -> Iterator[tuple[int, bytes]]:
    """(place, bytes) of a file from a place to its end, at most up to the `most`th byte; connections that break are taken up again.

    size: of the file where it is known, so that an end before it is not believed at once.
    A place that is 0 again means that all before was given up.
    """
    failures = 0
    while True:
        before, error = at, None
        blocks = _stream(address, name, at, most)
        while True:
            try:
                at, block = next(blocks)
            except StopIteration:
                break
            except (SpecError, NotThereError):
                raise
            except Exception as caught:  # aiohttp's, botocore's, Google's: they have nothing in common
                error = caught
                break
            if block:
                yield at, block
            at += len(block)
        ended = error is None or getattr(error, "status", None) == BEYOND
        if at >= most or (ended and (size is None or at >= size or at == before)):
            return
        failures = 0 if at > before else failures + 1
        if error is not None and (_final(error) or failures >= tries):
            raise FetchError(f"{address.shown(name)}: not fetched ({_said(error)})") from None
        if failures:
            time.sleep(PAUSE_S * 2 ** (failures - 1))


def _stream(address: Address, name: str, at: int, most: int) -> Iterator[tuple[int, bytes]]:
    """One attempt: blocks from `at` on, or from 0 where a server of HTTP knows no ranges."""
    files, path = _filesystem(address, name)
    try:
        if "http" in files.protocol:
            yield from _http_stream(files, path, at, most)
            return
        with files.open(path, "rb", block_size=REQUEST, cache_type="none") as stream:
            stream.seek(at)
            while at < most and (block := stream.read(min(REQUEST, most - at))):
                yield at, block
                at += len(block)
    except FileNotFoundError:
        raise NotThereError(f"{address.shown(name)}: there is no such file") from None


def _http_stream(files: Any, path: str, at: int, most: int) -> Iterator[tuple[int, bytes]]:
    import aiohttp

    # One request for all that is left, read piece by piece, so that no server decides how much of it lies in memory. As it is: unpacked by
    # the library it would be neither the bytes nor the range that were asked for.
    headers = {**files.kwargs.get("headers", {}), "Range": f"bytes={at}-", "Accept-Encoding": "identity"}
    patience = aiohttp.ClientTimeout(total=None, sock_connect=SILENT_S, sock_read=SILENT_S)
    stream = files.open(path, "rb", block_size=0, size=most, headers=headers, timeout=patience)
    try:
        at = at if stream.r.status == 206 else 0
        while at < most and (block := stream.read(min(BLOCK, most - at))):
            yield at, block
            at += len(block)
    finally:
        stream.close()


def _filesystem(address: Address, name: str) -> tuple[Any, str]:
    scheme = address.folder.partition("://")[0]
    try:
        from fsspec.core import url_to_fs

        files, path = url_to_fs(address.url(name))
    except ImportError:
        raise SpecError(f"{scheme}:// needs packages that are not installed: {ADVICE}") from None
    except ValueError:
        raise SpecError(f"{address.shown()}: {scheme}:// is no kind of address that is known, as https://, s3:// and gs:// are") from None
    return files, path


def _final(error: BaseException) -> bool:
    """Whether asking again would not help."""
    status = getattr(error, "status", None)
    return isinstance(error, PermissionError) or (isinstance(status, int) and 400 <= status < 500 and status not in AGAIN)


def _said(error: BaseException) -> str:
    """What went wrong in a few words of our own: messages of libraries quote addresses, and with them what is secret."""
    status, number = getattr(error, "status", None), getattr(error, "errno", None)
    if isinstance(status, int) and status:
        return f"the server answers {status}"
    if isinstance(error, PermissionError):
        return "access is refused: see that the credentials are where its library looks for them"
    if isinstance(error, TimeoutError):
        return "no answer in time"
    return f"{type(error).__name__}: {os.strerror(number)}" if isinstance(number, int) and number > 0 else type(error).__name__
