"""How is a corpus held? One run at a time: a lock file that names its holder, beats, and tells its workers whether to go on."""

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
from typing import Literal, TextIO

from medadv.common.errors import LockedError, RunError
from medadv.common.record import plain
from medadv.run.holder import LockRecord, alive_holder, describe_holder, holder_of, holds, is_alive, start_time

HEARTBEAT_S = 10.0
GUARD_S = 120.0
"""What is done under `exclusive` takes a moment: who has been in there for this long is stopped, or its disk is."""
PAUSE_S = 0.05
WRITING, GONE = "writing", "gone-"
MAKE_TRIES = 5
State = Literal["working", "draining", "halting"]
"""working: go on; draining: begin no other shard; halting: leave the running shard at its next batch."""


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
            started=start_time(pid),
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


@contextmanager
def exclusive(path: Path, offset: int = 0) -> Iterator[None]:
    """Keep other processes out for a moment, by a POSIX lock on one byte of a file: it ends with the process, and works over NFS.

    On a file system without such locks nobody is kept out; what is done inside must then be harmless when done twice. RunError: another
    process has been inside for `GUARD_S`. It may have been stopped between two steps, and would go on with the second one.
    """
    deadline = time.monotonic() + GUARD_S
    with _threads, path.open("a") as stream:
        while not _locked(stream, offset):
            if time.monotonic() > deadline:
                raise RunError(
                    f"{path} has been held by another process for {GUARD_S:.0f} s, which may be stopped: let it go on or end it "
                    "(`fuser -v` on that file tells which it is); nothing was changed, try again"
                )
            time.sleep(PAUSE_S)
        # Closing the file lets go.
        yield


def _locked(stream: TextIO, offset: int) -> bool:
    try:
        fcntl.lockf(stream, fcntl.LOCK_EX | fcntl.LOCK_NB, 1, offset)
    except (BlockingIOError, PermissionError):
        return False
    except OSError:
        return True  # no locks on this file system
    return True


# POSIX locks do not keep threads of one process apart.
_threads = threading.Lock()


def _take(hold: Hold) -> None:
    path = hold.path
    # Looking at a dead holder and taking its place must be one step: of two takers, the slower would remove the faster one's lock.
    with exclusive(path.with_name(f"{path.name}.guard")):
        holder = holder_of(path)
        if holder and is_alive(holder):
            raise LockedError(f"another {holder.purpose} holds this corpus: {describe_holder(holder)}")
        hold.before = holder
        # Parts of a job array hold locks beside each other, one of which is taken at a time. What cannot be read ends this before it holds.
        beside = [alive_holder(other) for other in path.parent.glob("*.lock") if other != path]
        path.unlink(missing_ok=True)
        _make_folder(hold.folder)
        temporary = _written(hold)
        try:
            os.link(temporary, path)  # atomic, also where `exclusive` keeps nobody out
            retire(hold.folder.parent, {hold.token, *(other.token for other in beside if other is not None and other.token)})
            # Until then the former holder could beat: between looking and renaming it may have been stopped for as long as it seemed dead.
            temporary.replace(path)
        except FileExistsError:
            faster = holder_of(path) or LockRecord()
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


def _beat(hold: Hold, stop: threading.Event) -> None:
    while not stop.wait(HEARTBEAT_S):
        if not hold.beat():
            return
