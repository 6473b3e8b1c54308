"""Which files of elsewhere are kept here? A folder of limited size that any number of processes share, each file under its own hash.

Locks are those of the system (flock) on the files themselves, so that a process which is killed holds none. A file that is fetched lies in
`files/HASH.SIZE.part`, locked by who fetches it, and is renamed when it is whole; a file that is read is locked by every reader, and only
one that nobody has locked is removed. What was held against its hash says so by its time of last change, which follows from the hash:
whoever writes to it later takes that away. Its time of last access is set by hand, and says which file is removed first.
"""

import fcntl
import hashlib
import os
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from types import TracebackType
from typing import BinaryIO

from medadv.common.errors import RunError, SpecError
from medadv.common.hashing import BLOCK

VARIABLE = "MEDADV_CACHE"
DEFAULT_BYTES = 50 << 30
POLL_S = 0.05
"""Between two looks at a file that another process fetches."""
PATIENCE_S = 2.0
"""How long who reads waits for room before what others have open lets the limit be passed. What they fetch ends soon, and is waited for."""
PART = ".part"

Fill = Callable[[BinaryIO], None]
"""Writes a file's bytes, after those that an earlier try left; raises where they do not come or are others."""


class Lease:
    """A file that is there, whole, and not removed while this is open."""

    def __init__(self, path: Path, descriptor: int) -> None:
        self.path, self._descriptor, self._process = path, descriptor, os.getpid()
        _touch(descriptor)

    def close(self) -> None:
        """Let it go; a second time does nothing."""
        descriptor, self._descriptor = self._descriptor, -1
        if descriptor < 0:
            return
        if self._process == os.getpid():
            _touch(descriptor)
            # Said in words: a process that was forked meanwhile has the same lock, and its descriptor open.
            with suppress(OSError):
                fcntl.flock(descriptor, fcntl.LOCK_UN)
        os.close(descriptor)

    def __enter__(self) -> "Lease":
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.close()


class Cache:
    """Files by their SHA-256, of at most so many bytes together, and of what is open beyond that."""

    def __init__(self, folder: str | Path | None = None, limit: int | None = None) -> None:
        """
        Args:
            folder: made where it is missing, for its owner alone; that of MEDADV_CACHE, or medadv in the user's cache, when None.
            limit: bytes; 50 GiB when None.

        Raises:
            SpecError: the folder cannot be made, or the limit is no number of bytes.
        """
        self.limit = DEFAULT_BYTES if limit is None else limit
        if self.limit <= 0:
            raise SpecError(f"cache_bytes={limit} must be above 0")
        self.folder = (default_folder() if folder is None else Path(folder)).expanduser().absolute()
        self.files = self.folder / "files"
        try:
            self.folder.mkdir(mode=0o700, parents=True, exist_ok=True)
            self.files.mkdir(mode=0o700, exist_ok=True)
        except OSError as error:
            if not self.files.is_dir():
                raise SpecError(f"{self.folder}: no cache can be made there ({error.strerror}); name another in {VARIABLE}") from None

    def path(self, sha256: str) -> Path:
        """Where the file of that hash lies when it is there."""
        return self.files / sha256

    def lease(self, sha256: str, size: int, fill: Fill) -> Lease:
        """The file, fetched where it is not there; waits for another process that fetches it.

        Raises what `fill` does; RunError where the cache cannot be written.
        """
        late = time.monotonic() + PATIENCE_S
        while (found := self._there(sha256, size)) is None:
            with self._writing(), self._claimed(sha256, size, 0, insist=time.monotonic() > late) as part:
                if part is not None:
                    self._fill(part, sha256, size, fill)
                    continue
            if not self.holds(sha256, size):
                time.sleep(POLL_S)
        return found

    def prefetch(self, sha256: str, size: int, fill: Fill) -> bool:
        """Fetch a file that will be wanted, unless somebody does already or there is no room beside what is in use: then False."""
        if self.holds(sha256, size):
            return True
        # Beside it one more of its size has to fit: that which somebody is about to read.
        with self._writing(), self._claimed(sha256, size, size, insist=False) as part:
            if part is None:
                return False
            self._fill(part, sha256, size, fill)
        return True

    def holds(self, sha256: str, size: int) -> bool:
        """Whether the file is there and was held against its hash."""
        try:
            found = self.path(sha256).lstat()
        except OSError:
            return False
        return _held(found, sha256, size)

    def used(self) -> int:
        """Bytes of all files, those that are being fetched at their full size."""
        with self._alone():
            return sum(size for _, _, size in self._contents())

    def _there(self, sha256: str, size: int) -> Lease | None:
        path = self.path(sha256)
        descriptor = _opened(path, os.O_RDONLY)
        if descriptor is None:
            return None
        try:
            _flock(descriptor, fcntl.LOCK_SH, self.folder)
            if not _same(descriptor, path):
                os.close(descriptor)
                return None
            found = os.fstat(descriptor)
            if not _held(found, sha256, size):
                if found.st_size != size or _hash(descriptor) != sha256:
                    # Damaged since it was fetched. Who has it open keeps what is open. Alone: what another who found it damaged has fetched
                    # anew meanwhile stays.
                    with self._alone():
                        if _same(descriptor, path):
                            path.unlink()
                    os.close(descriptor)
                    return None
                with suppress(OSError):
                    _mark(descriptor, sha256)
        except BaseException:
            with suppress(OSError):
                os.close(descriptor)
            raise
        return Lease(path, descriptor)

    def _fill(self, part: int, sha256: str, size: int, fill: Fill) -> None:
        with os.fdopen(os.dup(part), "r+b") as target:
            fill(target)
            target.flush()
            os.fsync(part)
        _mark(part, sha256)
        # Alone: whoever makes room meanwhile would find it under neither name.
        with self._alone():
            self._part(sha256, size).replace(self.path(sha256))

    def _part(self, sha256: str, size: int) -> Path:
        return self.files / f"{sha256}.{size}{PART}"

    @contextmanager
    def _claimed(self, sha256: str, size: int, spare: int, insist: bool) -> Iterator[int | None]:
        """The file that a download is written to, locked and its room made; None where another process has it, or there is no room.

        spare: bytes that are to stay free beside it.  insist: take it without room, once nobody fetches anything.
        """
        path = self._part(sha256, size)
        with self._alone():
            if self.holds(sha256, size):
                yield None
                return
            part = _opened(path, os.O_RDWR | os.O_CREAT)
            assert part is not None
            claimed = _flock(part, fcntl.LOCK_EX | fcntl.LOCK_NB, self.folder) and _same(part, path)
            if claimed and not self._make_room(size - os.fstat(part).st_size, spare) and not (insist and not self._fetching(path)):
                path.unlink(missing_ok=True)
                claimed = False
        try:
            yield part if claimed else None
        finally:
            if claimed:
                if os.fstat(part).st_size == 0:
                    path.unlink(missing_ok=True)
                _flock(part, fcntl.LOCK_UN, self.folder)
            os.close(part)

    def _make_room(self, missing: int, spare: int) -> bool:
        """Remove what was not used for longest, until all fits; whether it does.

        missing: bytes that are still to be written.  spare: bytes of the limit that stay free.
        """
        contents = sorted(self._contents())
        used = sum(size for _, _, size in contents)
        for _, path, size in contents:
            if used + spare <= self.limit and missing <= self._free():
                break
            if _removed(path, self.folder):
                used -= size
        return used + spare <= self.limit

    def _fetching(self, own: Path) -> bool:
        """Whether others fetch anything, when room was made in vain: parts that nobody writes to are gone by then."""
        return any(path.suffix == PART and path != own for _, path, _ in self._contents())

    def _free(self) -> int:
        found = os.statvfs(self.files)
        return found.f_bavail * found.f_frsize

    def _contents(self) -> list[tuple[int, Path, int]]:
        """(time of last use, path, bytes) of every file."""
        found = []
        for entry in os.scandir(self.files):
            with suppress(OSError, ValueError):
                facts = entry.stat(follow_symlinks=False)
                size = int(entry.name.split(".")[1]) if entry.name.endswith(PART) else facts.st_size
                found.append((facts.st_atime_ns, Path(entry.path), size))
        return found

    @contextmanager
    def _alone(self) -> Iterator[None]:
        """While room is made and taken no other process does so."""
        descriptor = os.open(self.folder / "lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            _flock(descriptor, fcntl.LOCK_EX, self.folder)
            try:
                yield
            finally:
                # In words, as in `Lease.close`: a process that another thread forked meanwhile would keep everybody out, itself too.
                _flock(descriptor, fcntl.LOCK_UN, self.folder)
        finally:
            os.close(descriptor)

    @contextmanager
    def _writing(self) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            what = f"{self.folder}: the cache cannot be written ({error.strerror}); make room, or name another in {VARIABLE}"
            raise RunError(what) from None


def default_folder() -> Path:
    """MEDADV_CACHE, else medadv in the user's folder of caches."""
    if named := os.environ.get(VARIABLE):
        return Path(named)
    return Path(os.environ.get("XDG_CACHE_HOME") or Path("~/.cache")) / "medadv"


def _touch(descriptor: int) -> None:
    """Say that a file was used. On a disk that is read-only nothing has to be remembered."""
    with suppress(OSError):
        os.utime(descriptor, ns=(time.time_ns(), os.fstat(descriptor).st_mtime_ns))


def _opened(path: Path, flags: int) -> int | None:
    """A descriptor of a file itself, whatever it is; None where there is none."""
    try:
        return os.open(path, flags | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
    except FileNotFoundError:
        return None


def _flock(descriptor: int, how: int, folder: Path) -> bool:
    """False where another has it and `how` does not wait."""
    try:
        fcntl.flock(descriptor, how)
    except BlockingIOError:
        return False
    except OSError as error:
        raise SpecError(f"{folder}: files cannot be locked there ({error.strerror}); name another folder in {VARIABLE}") from None
    return True


def _same(descriptor: int, path: Path) -> bool:
    """Whether the path still leads to the open file."""
    try:
        return os.path.samestat(os.fstat(descriptor), path.lstat())
    except FileNotFoundError:
        return False


def _removed(path: Path, folder: Path) -> bool:
    """Remove a file unless somebody has it locked."""
    with suppress(OSError):
        descriptor = _opened(path, os.O_RDWR)
        if descriptor is None:
            return True
        try:
            if _flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB, folder) and _same(descriptor, path):
                path.unlink()
                return True
        finally:
            os.close(descriptor)
    return False


def _moment(sha256: str) -> int:
    """The time of last change of a file that was held against its hash, in whole seconds, which every file system keeps."""
    return 1_000_000_000 + 2 * (int(sha256[:7], 16))


def _held(found: os.stat_result, sha256: str, size: int) -> bool:
    # What another user says of a file is not taken for true.
    return found.st_size == size and int(found.st_mtime) == _moment(sha256) and found.st_uid == os.geteuid()


def _mark(descriptor: int, sha256: str) -> None:
    os.utime(descriptor, (time.time(), _moment(sha256)))


def _hash(descriptor: int) -> str:
    digest, at = hashlib.sha256(), 0
    while part := os.pread(descriptor, BLOCK, at):
        digest.update(part)
        at += len(part)
    return digest.hexdigest()
