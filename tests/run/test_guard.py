"""A process that is stopped between two steps of taking a lock keeps others out, and not for ever."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from medadv.common.errors import RunError
from medadv.run import lock
from medadv.run.holder import read_lock

STOPPED = """
import os, signal, sys
from pathlib import Path
from medadv.run import lock
link = os.link
def stopping(*arguments, **more):
    os.kill(os.getpid(), signal.SIGSTOP)
    link(*arguments, **more)
os.link = stopping
with lock.held(Path(sys.argv[1])):
    pass
"""


def state(pid: int) -> str:
    return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]


@pytest.fixture
def stopped(tmp_path: Path) -> Iterator["subprocess.Popen[bytes]"]:
    """A process that takes a lock and was stopped just before it has it."""
    process = subprocess.Popen([sys.executable, "-c", STOPPED, str(tmp_path / "lock")])
    end = time.monotonic() + 60
    while state(process.pid) != "T":
        assert process.poll() is None
        assert time.monotonic() < end
        time.sleep(0.05)
    yield process
    process.kill()
    process.wait()


def test_who_comes_after_a_stopped_taker_is_told_after_a_while(
    stopped: "subprocess.Popen[bytes]", tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "lock"
    monkeypatch.setattr(lock, "GUARD_S", 0.3)
    start = time.monotonic()
    with pytest.raises(RunError, match=r"lock.guard has been held by another process.*may be stopped.*try again") as told, lock.held(path):
        pass
    assert 0.3 <= time.monotonic() - start < 10
    assert "\n" not in str(told.value)
    assert read_lock(path) is None
    # What it left undone it does, once it goes on; then the way is free.
    os.kill(stopped.pid, signal.SIGCONT)
    assert stopped.wait(30) == 0
    with lock.held(path) as hold:
        found = read_lock(path)
        assert found is not None
        assert found.token == hold.token


def test_a_stopped_taker_that_is_ended_keeps_nobody_out(
    stopped: "subprocess.Popen[bytes]", tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    stopped.kill()
    stopped.wait()
    # No time is left to wait in.
    monkeypatch.setattr(lock, "GUARD_S", 0.0)
    monkeypatch.setattr(lock, "PAUSE_S", 0.0)
    with lock.held(tmp_path / "lock"):
        pass


def test_a_moment_is_waited_for(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    code = f"""
import sys
from pathlib import Path
from medadv.run.lock import exclusive
with exclusive(Path({str(tmp_path / "guard")!r})):
    print("in", flush=True)
    sys.stdin.readline()
"""
    waited: list[float] = []
    with subprocess.Popen([sys.executable, "-c", code], stdin=subprocess.PIPE, stdout=subprocess.PIPE) as other:
        assert other.stdin is not None
        assert other.stdout is not None
        assert other.stdout.readline() == b"in\n"
        ends = other.stdin

        def wait(seconds: float) -> None:
            waited.append(seconds)
            if len(waited) == 3:
                ends.write(b"out\n")
                ends.flush()
            sleep(seconds)

        sleep = time.sleep
        monkeypatch.setattr(time, "sleep", wait)
        with lock.exclusive(tmp_path / "guard", 1):
            assert waited == []
        with lock.exclusive(tmp_path / "guard"):
            assert len(waited) >= 3
    assert other.returncode == 0
