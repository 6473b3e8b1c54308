"""Whatever goes wrong, a user reads one line: full and read-only disks, limits, workers that are gone, and what nobody foresaw."""

import errno
import os
import resource
import stat
import subprocess
import sys
import tempfile
import threading
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from types import SimpleNamespace

import pytest
from tests.conftest import CLASSIFIER, draw_pictures, quiet, save_victim, tiny_spec

from medadv.cli import app as command_line
from medadv.common import failures, machine
from medadv.common.errors import ExitCode, RunError, SpecError
from medadv.prepare.request import Options
from medadv.run import cluster
from medadv.run.run import run

PAGE = 4096
Medadv = Callable[..., tuple[int, list[str]]]


@pytest.fixture
def medadv(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Medadv:
    """The command line in this process: its exit code and its lines on standard error, but for progress."""
    monkeypatch.setattr(command_line.logging, "disable", lambda _: None)

    def called(*words: object) -> tuple[int, list[str]]:
        monkeypatch.setattr(sys, "argv", ["medadv", *map(str, words)])
        with pytest.raises(SystemExit) as caught:
            command_line.main()
        lines = capsys.readouterr().err.splitlines()
        return int(caught.value.code or 0), [line for line in lines if line.startswith(("medadv: ", "Traceback"))]

    return called


def fill(path: Path, left: int) -> None:
    """Take all room of a disk but so many bytes."""
    with path.open("wb", buffering=0) as filler:
        with suppress(OSError):
            while True:
                filler.write(bytes(PAGE))
        filler.truncate(filler.tell() - left)


def test_what_nobody_foresaw_is_one_line_and_its_traceback_is_kept(
    tmp_path: Path, medadv: Medadv, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(_: Path) -> None:
        raise KeyError("one\nand\nmore lines")

    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    monkeypatch.setattr("medadv.cli.doctor.examine", broken)
    code, lines = medadv("doctor", tmp_path)
    (kept,) = tmp_path.glob("medadv-error-*.txt")
    assert code == ExitCode.INTERNAL == 70
    assert len(lines) == 1
    assert "KeyError" in lines[0]
    assert lines[0].endswith(f"its traceback is in {kept}")
    assert "in broken" in kept.read_text()
    assert stat.S_IMODE(kept.stat().st_mode) == 0o600
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "missing"))
    code, lines = medadv("doctor", tmp_path)
    assert (code, len(lines)) == (70, 1)
    assert lines[0].endswith("its traceback could not be kept")


@pytest.mark.parametrize("unbuffered", ["", "1"])
def test_output_that_cannot_be_written_is_told_as_well(unbuffered: str, tmp_path: Path) -> None:
    """Buffered output is written when Python ends, behind what anybody could tell."""
    draw_pictures(tmp_path / "data", 2)
    command = [sys.executable, "-m", "medadv", "init", str(tmp_path / "data"), "--out", str(tmp_path / "guess.yaml")]
    with Path("/dev/full").open("w") as full:
        environment = {**os.environ, "PYTHONUNBUFFERED": unbuffered}
        done = subprocess.run(command, stdout=full, stderr=subprocess.PIPE, text=True, check=False, env=environment)
    assert (done.returncode, done.stderr) == (4, "medadv: no space left for a file: free some and run again\n")


@pytest.mark.parametrize("verb", ["report", "export", "init", "compare"])
def test_a_full_or_read_only_disk_is_one_line(verb: str, tmp_path: Path, small_disk: Path, tiny_corpus: Path, medadv: Medadv) -> None:
    source = tiny_corpus.parent
    words = {
        "report": (tiny_corpus, "--out", small_disk / "r.html"),
        "export": (tiny_corpus, "--format", "png", "--out", small_disk / "files"),
        "init": (source / "data", "--out", small_disk / "guess.yaml"),
        "compare": (source / "spec.yaml", "--out", small_disk / "compared", "--limit", 2, "--set", "sanity_samples=0"),
    }[verb]
    (small_disk / "files").mkdir()
    (small_disk / "compared").mkdir()
    # A page is left, on which the look at the place before the work finds room; the result of `init` would too.
    fill(small_disk / "filler", left=0 if verb == "init" else PAGE)
    code, lines = medadv(verb, *words)
    assert (code, len(lines)) == (2 if verb == "init" else 4, 1), lines
    assert lines[0].startswith("medadv: ")
    assert "o space left" in lines[0]
    # No piece of a result is left, and nothing that it was made in.
    assert sorted(small_disk.rglob("*")) == [small_disk / name for name in ("compared", "files", "filler")]
    (small_disk / "filler").unlink()
    subprocess.run(["mount", "-o", "remount,ro", small_disk], check=True)
    code, lines = medadv(verb, *words)
    assert (code, len(lines)) == (2, 1)
    assert "Read-only file system" in lines[0]


@pytest.mark.parametrize(
    ("error", "says"),
    [
        (MemoryError(), "out of memory"),
        (OSError(errno.ENOMEM, "fork"), "out of memory"),
        (ImportError("libtorch_cpu.so: failed to map segment from shared object"), "out of memory"),
        (RuntimeError("std::bad_alloc"), "out of memory"),
        (RuntimeError("can't start new thread"), "ulimit -u"),
        (BlockingIOError(errno.EAGAIN, "Resource temporarily unavailable"), "ulimit -u"),
        (OSError(errno.EMFILE, "Too many open files", "x"), "ulimit -n"),
        (OSError(errno.ENOSPC, "No space left", "page.html"), "no space left for page.html"),
    ],
)
def test_limits_say_what_to_raise(error: Exception, says: str) -> None:
    without, within = failures.explain(error), failures.explain(error, Path("corpus"))
    assert isinstance(without, RunError)
    assert says.replace("page.html", "") in str(within)
    assert says in str(without)
    assert ("finished shard" in str(without), "finished shard" in str(within)) == (False, True)
    assert "\n" not in str(without) + str(within)


def test_a_limit_on_memory_ends_in_one_line(tmp_path: Path) -> None:
    """A process that may not even load its libraries."""
    spec = tiny_spec(tmp_path)
    done = subprocess.run(
        [sys.executable, "-m", "medadv", "plan", str(spec)],
        preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_AS, (600 << 20, 600 << 20)),
        capture_output=True,
        text=True,
        check=False,
    )
    assert (done.returncode, done.stderr) == (4, "medadv: out of memory; this process needs more than it may take here\n")


def test_threads_that_cannot_be_started_are_a_wrong_spec(tmp_path: Path, medadv: Medadv, monkeypatch: pytest.MonkeyPatch) -> None:
    draw_pictures(tmp_path / "data", 2)
    save_victim(tmp_path / "victim.safetensors", "monai:densenet121", CLASSIFIER)
    spec = tiny_spec(tmp_path)
    code, lines = medadv("run", spec, "--set", "execution.threads=20000")
    assert (code, len(lines)) == (2, 1)
    assert "execution.threads=20000" in lines[0]
    assert not (tmp_path / "corpus").exists()
    count, real = len(os.sched_getaffinity(0)) + 3, threading.Thread.start
    machine.check_threads(count)
    started: list[threading.Thread] = []

    def start(self: threading.Thread) -> None:
        # Counted here: threads of other tests, such as a server's, may end meanwhile.
        if len(started) == 2:
            raise RuntimeError("can't start new thread")
        real(self)
        started.append(self)

    monkeypatch.setattr(threading.Thread, "start", start)
    with pytest.raises(SpecError, match="cannot be started here"):
        machine.set_threads(count)
    assert [thread.is_alive() for thread in started] == [False, False]


def test_a_result_that_was_lost_with_all_workers_is_one_line() -> None:
    """Dask calls such a task finished, and raises when its result is asked for."""

    class NoWorkerError(Exception):
        pass

    def lost() -> None:
        raise NoWorkerError("Attempted to run task")

    pool = cluster.Pool(SimpleNamespace(status="running"), "")
    pool.futures["shard-00000"] = SimpleNamespace(status="finished", result=lost)  # type: ignore[assignment]
    pool.finished.put(("shard-00000", pool.futures["shard-00000"]))
    answer = pool.wait(0)
    assert answer is not None
    name, value, error = answer
    assert (name, value) == ("shard-00000", None)
    assert isinstance(error, RunError)
    assert "no Dask worker" in str(error)


def test_local_workers_that_are_gone_are_noticed_within_a_minute(monkeypatch: pytest.MonkeyPatch) -> None:
    now = [1000.0]
    monkeypatch.setattr(cluster.time, "monotonic", lambda: now[0])
    client = SimpleNamespace(status="running", scheduler_info=lambda **_: {"workers": {}}, nthreads=dict)
    pool = cluster.Pool(client, "", futures={"shard-00000": SimpleNamespace()})  # type: ignore[dict-item]
    with cluster.dask.config.set(cluster._settings()):
        assert pool.wait(0) is None
        now[0] += 60
        with pytest.raises(RunError, match=r"no Dask worker.*run again"):
            pool.wait(0)


@pytest.mark.usefixtures("inline")
def test_a_run_on_a_disk_that_fills_up_says_what_is_kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    draw_pictures(tmp_path / "data", 2)
    save_victim(tmp_path / "victim.safetensors", "monai:densenet121", CLASSIFIER)
    monkeypatch.setattr("medadv.run.finish.build_manifest", lambda *_, **__: (_ for _ in ()).throw(OSError(errno.ENOSPC, "full")))
    with pytest.raises(RunError, match=r"no space left for .*corpus: free some and run again; every finished shard is kept"):
        run(tiny_spec(tmp_path), Options(), quiet)
