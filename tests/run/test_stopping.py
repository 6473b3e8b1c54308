"""Signals, locks and disks, with real processes and real file systems."""

import errno
import fcntl
import json
import os
import pickle
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Collection, Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager
from pathlib import Path
from typing import Any

import pytest
from tests.conftest import CLASSIFIER, draw_pictures, quiet, save_victim, tiny_spec

from medadv.batches import loading as inputs
from medadv.common import failures
from medadv.common.errors import LockedError, RunError
from medadv.common.stop import Stop, stoppable
from medadv.corpus import private as state
from medadv.corpus.folder import Workspace, shard_name
from medadv.evidence.verify import verify
from medadv.plan.frozen import generations
from medadv.prepare.request import Options
from medadv.run import commit, holder, journal, lock
from medadv.run.job import Job, SuspectedError
from medadv.run.part import run_part
from medadv.run.run import run
from medadv.run.worker import make
from medadv.run.working import Work, working
from medadv_transforms import InputError


def prepared(folder: Path, count: int, **changes: object) -> Path:
    draw_pictures(folder / "data", count)
    save_victim(folder / "victim.safetensors", "monai:densenet121", CLASSIFIER)
    return tiny_spec(folder, **changes)


def start(spec: Path, *arguments: str) -> "subprocess.Popen[str]":
    command = [sys.executable, "-m", "medadv", "run", str(spec), *arguments]
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, start_new_session=True)


def until(condition: object, process: "subprocess.Popen[str]", seconds: float = 240) -> None:
    deadline = time.monotonic() + seconds
    while not condition():  # type: ignore[operator]
        assert process.poll() is None, process.communicate()[1]
        assert time.monotonic() < deadline
        time.sleep(0.05)


@contextmanager
def standing(process: "subprocess.Popen[str]") -> Iterator[None]:
    """Hold a run and its workers still: on a slow machine it could be done before it has been looked at."""
    os.killpg(process.pid, signal.SIGSTOP)
    try:
        yield
    finally:
        os.killpg(process.pid, signal.SIGCONT)


def test_a_run_drains_on_sigterm_refuses_a_second_one_and_is_resumed(tmp_path: Path) -> None:
    """The signal goes to the whole group, workers included, as systemd and terminals send it."""
    spec = prepared(tmp_path, 40, attacks__pgd_8=None, **{"attacks__pgd-8__steps": 20, "execution__shard_size": 2})
    process = start(spec)
    shards = tmp_path / "corpus" / "shards"
    until(lambda: shards.is_dir() and any(shards.glob("shard-*.json")), process)
    with standing(process):
        with pytest.raises(LockedError, match=rf"host {socket.gethostname()}, process {process.pid}, last heartbeat") as caught:
            run(spec, Options(), quiet)
        assert caught.value.exit_code == 75
        os.killpg(process.pid, signal.SIGTERM)
    _, messages = process.communicate(timeout=120)
    assert process.returncode == 143, messages
    assert "medadv: stopped by SIGTERM" in messages
    assert "Traceback" not in messages
    manifest = json.loads((tmp_path / "corpus" / "manifest.json").read_text())
    made = len(list(shards.glob("shard-*.json")))
    assert 0 < made < 20
    assert (manifest["run"]["status"], len(manifest["shards"])) == ("partial", made)
    assert verify(tmp_path / "corpus") == []
    assert list((tmp_path / "corpus").rglob(".tmp*")) == []
    assert not (tmp_path / "corpus" / ".medadv" / "lock").exists()


def test_parts_are_held_apart_drain_on_a_signal_and_merge(tmp_path: Path) -> None:
    spec = prepared(tmp_path, 24, attacks__pgd_8=None, **{"attacks__pgd-8__steps": 20, "execution__shard_size": 2})
    process = start(spec, "--part", "1/2")
    shards, corpus = tmp_path / "corpus" / "shards", tmp_path / "corpus"
    until(lambda: shards.is_dir() and any(shards.glob("shard-*.json")), process)
    with stoppable() as stop:
        with standing(process):
            with pytest.raises(LockedError, match=f"process {process.pid}, last heartbeat") as caught:
                run_part(spec, "1/2", Options(), quiet, stop)
            assert caught.value.exit_code == 75
            with pytest.raises(LockedError, match="part 1/2 is at work"):
                run_part(spec, "2/3", Options(), quiet, stop)
            with pytest.raises(LockedError, match=f"process {process.pid}"):
                run(spec, Options(), quiet)
            os.killpg(process.pid, signal.SIGUSR1)
        _, messages = process.communicate(timeout=120)
        assert process.returncode == 143, messages
        made = len(list(shards.glob("shard-*.json")))
        assert 0 < made < 6
        assert "Traceback" not in messages
        assert not list((corpus / ".medadv" / "parts").glob("*.lock"))
        again = run_part(spec, "1/2", Options(), quiet, stop)
        other = run_part(spec, "2/2", Options(), quiet, stop)
    assert (again.shards, other.shards) == (6 - made, 6)
    merged = run(spec, Options(), quiet)
    assert (merged.manifest.samples, merged.manifest.run.status) == (24, "complete")
    undisturbed = run(spec, Options(out=tmp_path / "other"), quiet)
    assert merged.manifest.content_root == undisturbed.manifest.content_root


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143), (signal.SIGUSR1, 143)])
def test_each_signal_has_its_exit_code(number: signal.Signals, code: int) -> None:
    with stoppable() as stop:
        stop.check()
        os.kill(os.getpid(), number)
        with pytest.raises(Exception, match=number.name) as caught:
            stop.check()
    assert caught.value.exit_code == code  # type: ignore[attr-defined]
    assert signal.getsignal(signal.SIGTERM) == signal.SIG_DFL


def test_locks_are_taken_over_from_the_dead_alone(tmp_path: Path) -> None:
    path = tmp_path / "lock"
    dead = subprocess.Popen(["true"])
    dead.wait()
    here = {"host": socket.gethostname(), "pid": dead.pid, "started": "x", "heartbeat": time.time(), "token": "a"}
    path.write_text(json.dumps(here))
    with lock.held(path) as hold:
        assert holder.state_of(path, hold.token) == "working"
        assert holder.state_of(path, "a") is None
        hold.tell("draining")
        assert holder.state_of(path, hold.token) == "draining"
        with pytest.raises(LockedError, match=f"process {os.getpid()}"), lock.held(path):
            pass
    assert not path.exists()
    path.write_text(json.dumps({**here, "host": "elsewhere", "heartbeat": time.time() - 30}))
    with pytest.raises(LockedError, match="host elsewhere"), lock.held(path):
        pass
    path.write_text(json.dumps({**here, "host": "elsewhere", "heartbeat": time.time() - 2 * holder.STALE_S}))
    with lock.held(path):
        pass
    assert [p.name for p in tmp_path.iterdir()] == ["lock.guard"]


def test_a_former_holder_that_beats_late_does_not_get_the_lock_back(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path, retire = tmp_path / "lock", lock.retire
    former = lock.Hold(path, "former", "run")
    former.folder.mkdir(parents=True)
    record = {"host": "elsewhere", "pid": 1, "heartbeat": time.time() - 2 * holder.STALE_S, "token": former.token}
    path.write_text(json.dumps(record))

    def late(writing: Path, keep: Collection[str]) -> None:
        # It had looked whether the lock is its own before that was taken.
        lock._written(former).replace(path)
        retire(writing, keep)

    monkeypatch.setattr(lock, "retire", late)
    with lock.held(path) as hold:
        assert holder.state_of(path, hold.token) == "working"
        assert not former.beat()
    assert not hold.lost


@pytest.fixture
def failing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """The errors that the next readers of the lock file meet, last one first."""
    left: list[int] = []
    real = Path.read_text

    def read_text(self: Path, *arguments: str) -> str:
        if self == tmp_path / "lock" and left:
            raise OSError(left.pop(), "disk", str(self))
        return real(self, *arguments)

    monkeypatch.setattr(Path, "read_text", read_text)
    return left


def test_a_lock_that_cannot_be_read_is_no_free_lock(tmp_path: Path, failing: list[int], monkeypatch: pytest.MonkeyPatch) -> None:
    """On a network disk a reader may meet ESTALE while the holder's beat replaces the file: no sign that nobody holds it."""
    monkeypatch.setattr(time, "sleep", lambda _: None)
    path = tmp_path / "lock"
    with lock.held(path) as hold:
        failing[:] = [errno.EIO, errno.ESTALE]
        with pytest.raises(LockedError, match=f"process {os.getpid()}"), lock.held(path):
            pass
        failing[:] = [errno.EIO, errno.ESTALE]
        assert holder.state_of(path, hold.token) == "working"
        before = path.read_bytes()
        for lasting in ([errno.ESTALE] * 99, [errno.EACCES]):
            failing[:] = lasting
            with pytest.raises(RunError, match="lock cannot be read") as caught, lock.held(path):
                pass
            assert caught.value.exit_code == 4
            failing[:] = lasting
            with pytest.raises(RunError, match="lock cannot be read"):
                holder.alive_holder(path)
            failing[:] = lasting
            # A worker must not take it for a run that is gone; its shard is tried again.
            with pytest.raises(OSError, match="disk"):
                holder.state_of(path, hold.token)
            failing[:] = lasting
            assert hold.beat()
            assert path.read_bytes() == before
        failing.clear()
        assert hold.beat()
        assert path.read_bytes() != before
    assert not path.exists()


def test_who_cannot_tell_which_parts_are_alive_holds_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    read = Path.read_text
    other = tmp_path / "2-of-2.lock"
    other.write_text("{}")

    def read_text(self: Path, *arguments: str) -> str:
        if self == other:
            raise PermissionError(errno.EACCES, "disk", str(self))
        return read(self, *arguments)

    monkeypatch.setattr(Path, "read_text", read_text)
    with pytest.raises(RunError, match="lock cannot be read"), lock.held(tmp_path / "1-of-2.lock", "part"):
        pass
    assert not (tmp_path / "1-of-2.lock").exists()


def test_beating_goes_on_after_a_disk_failed(tmp_path: Path, failing: list[int], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lock, "HEARTBEAT_S", 0.01)
    path = tmp_path / "lock"
    with lock.held(path):
        failing[:] = [errno.ESTALE] * 6
        deadline = time.monotonic() + 30
        while failing:
            assert time.monotonic() < deadline
            time.sleep(0.01)
        silent = path.read_bytes()
        while path.read_bytes() == silent:
            assert time.monotonic() < deadline, "no beat any more"
            time.sleep(0.01)
    assert not path.exists()


@pytest.mark.usefixtures("inline")
def test_failing_disks_are_tried_again_and_condemn_no_input(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A reader turns whatever it meets into a refusal; an I/O error behind it must not quarantine the sample."""
    monkeypatch.setattr(time, "sleep", lambda _: None)
    spec = prepared(tmp_path, 4)
    failures_left = [errno.EIO, errno.ESTALE]
    real = inputs.Reader.read

    def read(self: inputs.Reader, source: Any) -> object:
        # While shards are made: whoever plans looks at a few images too, and does not try again.
        if failures_left and Workspace(tmp_path / "corpus").planned:
            try:
                raise OSError(failures_left.pop(), "disk")
            except OSError:
                raise InputError("decode-failed") from None
        return real(self, source)

    monkeypatch.setattr(inputs.Reader, "read", read)
    result = run(spec, Options(), quiet)
    assert not failures_left
    assert (result.exit_code, result.manifest.samples, result.manifest.quarantined) == (0, 4, 0)


@pytest.mark.usefixtures("inline")
def test_a_full_disk_is_one_line_and_leaves_nothing_half_written(tmp_path: Path, small_disk: Path) -> None:
    spec = prepared(tmp_path, 12)
    filler = small_disk / "filler"
    (small_disk / "corpus").mkdir()
    filler.write_bytes(bytes(2 * (1 << 20) - 120_000))
    with pytest.raises(RunError, match="no space left") as caught:
        run(spec, Options(out=small_disk / "corpus"), quiet)
    assert caught.value.exit_code == 4
    shards = small_disk / "corpus" / "shards"
    assert not list(shards.glob(".tmp*"))
    for receipt in shards.glob("*.json"):
        content = json.loads(receipt.read_text())
        assert receipt.with_suffix(".h5").stat().st_size == content["bytes"]
    filler.unlink()
    assert run(spec, Options(out=small_disk / "corpus"), quiet).manifest.samples == 12
    assert verify(small_disk / "corpus") == []
    subprocess.run(["mount", "-o", "remount,ro", small_disk], check=True)
    with pytest.raises(RunError, match="Read-only"):
        run(spec, Options(out=small_disk / "corpus"), quiet)


def test_out_of_memory_says_which_setting_to_change() -> None:
    for error in (MemoryError(), RuntimeError("CUDA out of memory. Tried"), RuntimeError("DefaultCPUAllocator: can't allocate memory")):
        assert "execution.workers=1" in str(failures.explain(error, Path("corpus")))
    assert failures.explain(RuntimeError("shape mismatch"), Path("corpus")) is None


def test_a_shard_made_twice_is_committed_once(tiny_corpus: Path, tmp_path: Path) -> None:
    workspace = Workspace(tiny_corpus)
    plan = generations(workspace.plans)[0]
    stands = commit.committed(workspace, "shard-00000", plan.hash)
    late = tmp_path / "late.h5"
    late.write_bytes(b"of a worker that came late")
    before = workspace.shard("shard-00000").read_bytes()
    assert commit.commit(workspace, "shard-00000", 0, late, stands.model_copy(update={"samples": 1}), lambda: None) == stands
    assert workspace.shard("shard-00000").read_bytes() == before


def test_a_worker_whose_run_is_gone_commits_nothing_and_deaths_are_counted(tiny_corpus: Path, tmp_path: Path) -> None:
    plan = generations(Workspace(tiny_corpus).plans)[0]
    workspace = Workspace(tmp_path)
    workspace.make()
    job = Job(str(tmp_path), 0, next(plan.lines()), False, str(workspace.lock), "gone")
    with pytest.raises(Exception, match=shard_name(0)) as caught:
        make(job)
    assert type(caught.value).__name__ == "NotWantedError"
    with lock.held(workspace.lock) as hold:
        for _ in range(journal.TOLERATED):
            journal.begin(workspace, job.name, hold.token)
        journal.begin(workspace, "shard-00001", "another run")
        assert journal.deaths(workspace, job.name, hold.token) == journal.TOLERATED
        with pytest.raises(SuspectedError) as suspected:
            make(Job(**{**job.__dict__, "token": hold.token}))
        # It comes back from another process.
        assert pickle.loads(pickle.dumps(suspected.value)).deaths == journal.TOLERATED
        assert journal.deaths(workspace, job.name, hold.token) == 0
    assert list(workspace.shards.iterdir()) == []
    assert state.poison(workspace) == []


def begun(workspace: Workspace) -> AbstractContextManager[Work]:
    return working(workspace, Options(), quiet, Stop())


def test_two_runs_that_begin_a_corpus_at_once_leave_it_to_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Both saw that there was nothing; the one that is refused takes nothing away."""
    workspace, real, others = Workspace(tmp_path / "corpus"), Path.mkdir, ExitStack()

    def mkdir(self: Path, *arguments: Any, **more: Any) -> None:
        with monkeypatch.context() as patch:
            patch.setattr(Path, "mkdir", real)
            if not workspace.lock.exists():
                others.enter_context(begun(workspace))
        real(self, *arguments, **more)

    with others:
        with monkeypatch.context() as patch:
            patch.setattr(Path, "mkdir", mkdir)
            with pytest.raises(LockedError), begun(workspace):
                pass
        assert (workspace.shards.is_dir(), workspace.lock.exists()) == (True, True)


def test_a_run_that_ends_before_it_planned_takes_nothing_from_the_next_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Parts of a job array wait for the one that plans, and go on in the moment in which it fails."""
    workspace, real, others = Workspace(tmp_path / "corpus"), lock._cleared, ExitStack()

    def cleared(hold: lock.Hold) -> None:
        real(hold)
        monkeypatch.undo()
        others.enter_context(begun(workspace))

    monkeypatch.setattr(lock, "_cleared", cleared)
    with others:
        with pytest.raises(RunError, match="stopped"), begun(workspace):
            raise RunError("stopped")
        assert (workspace.shards.is_dir(), workspace.lock.exists()) == (True, True)


def test_exclusive_keeps_other_processes_out(tmp_path: Path) -> None:
    path = tmp_path / "guard"
    program = f"import fcntl; s = open({str(path)!r}, 'a'); fcntl.lockf(s, fcntl.LOCK_EX | fcntl.LOCK_NB, 1, 5)"
    with lock.exclusive(path, 5):
        assert subprocess.run([sys.executable, "-c", program], capture_output=True, check=False).returncode != 0
    assert subprocess.run([sys.executable, "-c", program], capture_output=True, check=False).returncode == 0
    assert fcntl.LOCK_EX
