"""One run per corpus: a lock file that names its holder and shows that it is alive."""

import json
import os
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from medadv.errors import LockedError

HEARTBEAT_S = 10.0
STALE_S = 120.0
"""A holder on another host that has been silent for this long is taken for dead."""


@contextmanager
def held(path: Path) -> Iterator[None]:
    """Hold the lock, beating while inside. LockedError names the holder when another run is alive."""
    token = f"{socket.gethostname()}:{os.getpid()}:{time.time_ns()}"
    _take(path, token)
    stop = threading.Event()
    beat = threading.Thread(target=_beat, args=(path, token, stop), daemon=True)
    beat.start()
    try:
        yield
    finally:
        stop.set()
        beat.join()
        if _read(path).get("token") == token:
            path.unlink(missing_ok=True)


def _take(path: Path, token: str) -> None:
    for _ in range(3):
        temporary = path.with_name(f".tmp-lock-{os.getpid()}")
        temporary.write_text(json.dumps(_content(token)))
        try:
            os.link(temporary, path)  # atomic, also on shared file systems
            return
        except FileExistsError:
            holder = _read(path)
            if _alive(holder):
                raise LockedError(
                    f"another run holds this corpus: host {holder.get('host')}, process {holder.get('pid')}, "
                    f"last heartbeat {time.time() - holder.get('heartbeat', 0):.0f} s ago"
                ) from None
            # Only one of several takers may remove the dead lock: rename is atomic, and the loser finds nothing to rename.
            grave = path.with_name(f".tmp-dead-lock-{os.getpid()}")
            try:
                path.rename(grave)
                grave.unlink()
            except FileNotFoundError:
                continue
        finally:
            temporary.unlink(missing_ok=True)
    raise LockedError("another run took this corpus at the same moment")


def _content(token: str) -> dict[str, Any]:
    return {
        "token": token,
        "host": socket.gethostname(),
        "pid": os.getpid(),
        "started": _start_time(os.getpid()),
        "heartbeat": time.time(),
    }


def _read(path: Path) -> dict[str, Any]:
    try:
        content = json.loads(path.read_text())
    except (OSError, ValueError):
        return {}
    return content if isinstance(content, dict) else {}


def _alive(holder: dict[str, Any]) -> bool:
    if holder.get("host") == socket.gethostname():
        pid = holder.get("pid")
        # The start time tells the holder from a later process that got its number.
        return isinstance(pid, int) and _start_time(pid) == holder.get("started") is not None
    return time.time() - float(holder.get("heartbeat", 0)) < STALE_S


def _start_time(pid: int) -> str | None:
    """Start time of a process in clock ticks since boot, None when there is no such process (or it is a zombie)."""
    try:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return None
    return None if fields[0] == "Z" else fields[19]


def _beat(path: Path, token: str, stop: threading.Event) -> None:
    while not stop.wait(HEARTBEAT_S):
        if _read(path).get("token") != token:
            return
        temporary = path.with_name(f".tmp-beat-{os.getpid()}")
        temporary.write_text(json.dumps(_content(token)))
        temporary.replace(path)
