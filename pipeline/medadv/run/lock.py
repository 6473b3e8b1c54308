"""One run per corpus: a lock file that names its holder, shows that it is alive, and tells its workers whether to go on."""

import fcntl
import json
import os
import secrets
import shutil
import socket
import threading
import time
from collections.abc import Collection, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from pydantic import field_validator

from medadv.common.errors import LockedError, RunError
from medadv.common.failures import passing
from medadv.common.record import Open, parse, plain
from medadv.corpus.folder import Workspace

HEARTBEAT_S = 10.0
STALE_S = 120.0
"""A holder on another host that has been silent for this long is taken for dead."""
AHEAD_S = 24 * 3600.0
"""How far another host's clock may be ahead: a heartbeat beyond is none, or its lock would be held for years."""
LAST_YEAR_S = 1e11
"""Seconds since 1970 that no clock shows."""
PAUSES_S = (0.1, 0.2, 0.4)
"""Waits before a lock file is read again that a network disk failed to give."""
WRITING, GONE = "writing", "gone-"
MAKE_TRIES = 5
State = Literal["working", "draining", "halting"]
"""working: go on; draining: begin no other shard; halting: leave the running shard at its next batch."""


class LockRecord(Open):
    """What a lock file says: who holds it, whether that process lives, and what it wants of its workers. Other versions may say more."""

    token: str | None = None
    purpose: str = "run"
    state: str = "working"
    host: str | None = None
    pid: int | None = None
    started: str | None = None
    heartbeat: float = 0.0
    group: str | None = None
    """What a `forget` removes."""

    @field_validator("heartbeat", mode="before")
    @classmethod
    def _number(cls, value: Any) -> float:
        """What is no time was never a heartbeat: the lock then says who holds it, and on another host is a dead one's."""
        number = isinstance(value, int | float) and not isinstance(value, bool) and 0 <= value < LAST_YEAR_S
        return float(value) if number else 0.0


@dataclass
class Hold:
    """A lock that is held. `path` and `token` are what a worker needs to see whether it still is."""

    path: Path
    token: str
    purpose: str
    group: str | None = None
    before: LockRecord | None = None
    """The dead holder whose lock was taken over."""
    state: State = "working"
    lost: bool = False
    """Whether somebody else had the lock when it was let go."""
    writing: threading.Lock = field(default_factory=threading.Lock, repr=False)

    @property
    def folder(self) -> Path:
        """Where the holder and its workers make files before they get their names, see `writing_folder`."""
        return writing_folder(self.path, self.token)

    def tell(self, state: State) -> None:
        """Let the workers know; they read it before a shard, between batches and before a commit."""
        self.state = state
        self.beat()

    def beat(self) -> bool:
        """Write the lock file anew; False when somebody else took it. A disk that is full or fails is no reason to stop beating."""
        with self.writing:
            with suppress(OSError):
                # While nobody can say whose lock it is, it must not be written: this beat is left out, and the next one looks again.
                if not holds(self.path, self.token):
                    return False
                _written(self).replace(self.path)
            return True

    def content(self) -> LockRecord:
        """Holder, heartbeat and state."""
        pid = os.getpid()
        return LockRecord(
            token=self.token,
            purpose=self.purpose,
            state=self.state,
            host=socket.gethostname(),
            pid=pid,
            started=_start_time(pid),
            heartbeat=time.time(),
            group=self.group,
        )


@contextmanager
def held(path: Path, purpose: str = "run", group: str | None = None) -> Iterator[Hold]:
    """Hold the lock, beating while inside; `group` is told to whoever takes over. LockedError names the holder when another run is alive.

    RunError: the lock file that lies there cannot be read, so its holder may be alive.
    """
    hold = Hold(path, secrets.token_hex(8), purpose, group)
    _take(hold)
    stop = threading.Event()
    beat = threading.Thread(target=_beat, args=(hold, stop), daemon=True)
    beat.start()
    try:
        yield hold
    finally:
        stop.set()
        beat.join()
        with suppress(OSError):
            hold.lost = not holds(path, hold.token)
            if not hold.lost:
                # Not unlinked: somebody may take the lock over in this moment, and the folder away with it.
                path.rename(hold.folder / "released")
        _cleared(hold)


def writing_folder(path: Path, token: str) -> Path:
    """The folder that a holder of the lock at `path` writes through (`writing_in`).

    Who takes the lock over moves it away before anything else. The former holder may not be dead, but stopped or cut off: it finds out when
    its next rename fails, whatever it was about to publish.
    """
    return path.parent / WRITING / token


def retire(writing: Path, keep: Collection[str] = ()) -> None:
    """Move the folders of former holders away, and delete them. keep: tokens of those that are alive."""
    for folder in list(writing.glob("*")):
        if folder.name in keep:
            continue
        gone = folder if folder.name.startswith(GONE) else folder.with_name(f"{GONE}{folder.name}-{secrets.token_hex(4)}")
        with suppress(FileNotFoundError):
            folder.rename(gone)
        shutil.rmtree(gone, ignore_errors=True)


def alive_holder(path: Path) -> LockRecord | None:
    """Content of a lock whose holder is alive, else None. RunError when the file cannot be read."""
    holder = _holder(path)
    return holder if holder and _alive(holder) else None


def holds(path: Path, token: str) -> bool:
    """Whether a lock is held under a token. OSError when the file cannot be read."""
    holder = read_lock(path)
    return holder is not None and holder.token == token


def state_of(path: Path, token: str) -> str | None:
    """What the holder of `token` wants of its workers; None when it is dead or lost the lock. OSError when the file cannot be read."""
    holder = read_lock(path)
    return holder.state if holder is not None and holder.token == token else None


def at_work(workspace: Workspace) -> LockRecord | None:
    """The run, `forget` or part that works on a corpus now, as far as its private folder lets itself be read."""
    for path in (workspace.lock, *sorted(workspace.parts.glob("*.lock"))):
        with suppress(RunError):
            if holder := alive_holder(path):
                return holder
    return None


def describe_holder(holder: LockRecord) -> str:
    """Host, process and heartbeat."""
    age = max(0.0, time.time() - holder.heartbeat)
    return f"host {holder.host}, process {holder.pid}, last heartbeat {age:.0f} s ago"


def read_lock(path: Path) -> LockRecord | None:
    """What a lock file says, None when there is none or it is no lock. OSError when it cannot be read: nobody knows whether it is held."""
    try:
        return parse(LockRecord, _text(path))
    except (FileNotFoundError, ValueError):
        return None


def _text(path: Path) -> str:
    for pause in PAUSES_S:
        try:
            return path.read_text()
        except OSError as error:
            if not passing(error):
                raise
            time.sleep(pause)
    return path.read_text()


def _holder(path: Path) -> LockRecord | None:
    try:
        return read_lock(path)
    except OSError as error:
        reason = error.strerror or type(error).__name__
        raise RunError(f"{path}: the lock cannot be read ({reason}), so another run may be alive; nothing was changed, try again") from None


@contextmanager
def exclusive(path: Path, offset: int = 0) -> Iterator[None]:
    """Keep other processes out for a moment, by a POSIX lock on one byte of a file: it ends with the process, and works over NFS.

    On a file system without such locks nobody is kept out; what is done inside must then be harmless when done twice.
    """
    with _threads, path.open("a") as stream:
        with suppress(OSError):
            fcntl.lockf(stream, fcntl.LOCK_EX, 1, offset)
        # Closing the file lets go.
        yield


# POSIX locks do not keep threads of one process apart.
_threads = threading.Lock()


def _take(hold: Hold) -> None:
    path = hold.path
    # Looking at a dead holder and taking its place must be one step: of two takers, the slower would remove the faster one's lock.
    with exclusive(path.with_name(f"{path.name}.guard")):
        holder = _holder(path)
        if holder and _alive(holder):
            raise LockedError(f"another {holder.purpose} holds this corpus: {describe_holder(holder)}")
        hold.before = holder
        path.unlink(missing_ok=True)
        _make_folder(hold.folder)
        temporary = _written(hold)
        try:
            os.link(temporary, path)  # atomic, also where `exclusive` keeps nobody out
            # Parts of a job array hold locks beside each other, one of which is taken at a time.
            beside = (alive_holder(other) for other in path.parent.glob("*.lock") if other != path)
            retire(hold.folder.parent, {hold.token, *(other.token for other in beside if other is not None and other.token)})
        except FileExistsError:
            faster = _holder(path) or LockRecord()
            _cleared(hold)
            raise LockedError(f"another run took this corpus at the same moment: {describe_holder(faster)}") from None
        finally:
            temporary.unlink(missing_ok=True)


def _make_folder(folder: Path) -> None:
    # The folder above goes with its last holder, perhaps in this moment.
    for _ in range(MAKE_TRIES - 1):
        with suppress(FileNotFoundError):
            folder.mkdir(parents=True)
            return
    folder.mkdir(parents=True)


def _cleared(hold: Hold) -> None:
    shutil.rmtree(hold.folder, ignore_errors=True)
    with suppress(OSError):
        hold.folder.parent.rmdir()


def _written(hold: Hold) -> Path:
    temporary = hold.folder / f"{hold.path.name}-{secrets.token_hex(4)}"
    try:
        temporary.write_text(json.dumps(plain(hold.content())))
    except OSError:
        temporary.unlink(missing_ok=True)
        raise
    return temporary


def _alive(holder: LockRecord) -> bool:
    if holder.host == socket.gethostname():
        # The start time tells the holder from a later process that got its number.
        return holder.pid is not None and _start_time(holder.pid) == holder.started is not None
    return -AHEAD_S < time.time() - holder.heartbeat < STALE_S


def _start_time(pid: int) -> str | None:
    """Boot and start time of a process, None when there is no such process (or it is a zombie)."""
    if not Path("/proc/self/stat").exists():
        with suppress(ProcessLookupError, PermissionError):
            os.kill(pid, 0)
            return "running"
        return None
    try:
        boot = Path("/proc/sys/kernel/random/boot_id").read_text().strip()
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return None
    return None if fields[0] == "Z" else f"{boot}:{fields[19]}"


def _beat(hold: Hold, stop: threading.Event) -> None:
    while not stop.wait(HEARTBEAT_S):
        if not hold.beat():
            return
