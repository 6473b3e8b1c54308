"""Who holds a corpus? What a lock file says, and whether its holder is alive."""

import os
import socket
import time
from contextlib import suppress
from pathlib import Path
from typing import Any

from pydantic import field_validator

from medadv.common.errors import RunError
from medadv.common.failures import passing
from medadv.common.record import Open, parse
from medadv.corpus.folder import Workspace

STALE_S = 120.0
"""A holder on another host that has been silent for this long is taken for dead."""
AHEAD_S = 24 * 3600.0
"""How far another host's clock may be ahead: a heartbeat beyond is none, or its lock would be held for years."""
LAST_YEAR_S = 1e11
"""Seconds since 1970 that no clock shows."""
PAUSES_S = (0.1, 0.2, 0.4)
"""Waits before a lock file is read again that a network disk failed to give."""


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


def alive_holder(path: Path) -> LockRecord | None:
    """Content of a lock whose holder is alive, else None. RunError when the file cannot be read."""
    holder = holder_of(path)
    return holder if holder and is_alive(holder) else None


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


def holder_of(path: Path) -> LockRecord | None:
    """`read_lock`, but RunError where the file cannot be read."""
    try:
        return read_lock(path)
    except OSError as error:
        reason = error.strerror or type(error).__name__
        raise RunError(f"{path}: the lock cannot be read ({reason}), so another run may be alive; nothing was changed, try again") from None


def is_alive(holder: LockRecord) -> bool:
    """Whether the process that a lock names still runs, as far as this host can tell."""
    if holder.host == socket.gethostname():
        # The start time tells the holder from a later process that got its number.
        return holder.pid is not None and start_time(holder.pid) == holder.started is not None
    return -AHEAD_S < time.time() - holder.heartbeat < STALE_S


def start_time(pid: int) -> str | None:
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
