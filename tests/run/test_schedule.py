"""scripts/schedule, run: exit codes with a stand-in for medadv, the job array with real parts, how long Dask workers live as jobs."""

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import nullcontext
from pathlib import Path
from types import ModuleType, SimpleNamespace
from unittest.mock import MagicMock

import pytest
from tests.conftest import CLASSIFIER, draw_pictures, save_victim, tiny_spec

from medadv.evidence.verify import verify

SCHEDULE = Path(__file__).resolve().parents[2] / "scripts" / "schedule"


def script(path: Path, text: str) -> Path:
    path.write_text(f"#!/bin/sh\n{text}\n")
    path.chmod(0o755)
    return path


@pytest.mark.parametrize(
    ("code", "ends", "says"),
    [
        (0, 0, ""),
        (2, 2, "spec"),
        (3, 3, "quarantined"),
        (4, 4, "goes on"),
        (5, 5, "damaged"),
        (70, 70, "itself"),
        (75, 0, "skipped"),
        (130, 130, "goes on"),
        (143, 143, "goes on"),
    ],
)
def test_nightly_turns_exit_codes_into_one_line(tmp_path: Path, code: int, ends: int, says: str) -> None:
    medadv = script(tmp_path / "medadv", f'echo "$@" >"{tmp_path}/called"; exit {code}')
    done = subprocess.run(
        [SCHEDULE / "nightly", "spec with space.yaml", "--json"],
        env={**os.environ, "MEDADV": str(medadv)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == ends
    assert says in done.stderr
    assert len(done.stderr.splitlines()) == (1 if says else 0)
    assert (tmp_path / "called").read_text() == "run spec with space.yaml --json\n"


@pytest.fixture
def interruptible() -> Iterator[None]:
    """As in a terminal: what a shell starts in the background ignores SIGINT, and so does all that it starts."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


@pytest.mark.usefixtures("interruptible")
@pytest.mark.parametrize("send", [os.kill, os.killpg])
@pytest.mark.parametrize(("name", "code"), [("TERM", 143), ("INT", 130), ("USR1", 143)])
def test_nightly_hands_signals_on_and_waits(tmp_path: Path, name: str, code: int, send: Callable[[int, int], None]) -> None:
    """systemd tells nightly alone, a terminal its whole group: medadv gets each signal once, since a second one ends its grace time."""
    # A stand-in that drains as medadv does, and counts the signals meanwhile.
    script(
        tmp_path / "medadv",
        f"""
        trap 'echo {name} >>"{tmp_path}/signals"' {name}
        touch "{tmp_path}/running"
        for _ in $(seq 200); do [ -e "{tmp_path}/signals" ] && break; sleep 0.1; done
        sleep 0.5; sleep 0.5
        touch "{tmp_path}/drained"
        exit {code}""",
    )
    with subprocess.Popen(
        [SCHEDULE / "nightly", "spec.yaml"],
        env={**os.environ, "MEDADV": str(tmp_path / "medadv")},
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    ) as process:
        deadline = time.monotonic() + 60
        while not (tmp_path / "running").exists():
            assert time.monotonic() < deadline
            time.sleep(0.05)
        send(process.pid, signal.Signals[f"SIG{name}"])
        process.wait(timeout=60)
        drained = (tmp_path / "drained").exists()
        messages = process.communicate(timeout=60)[1]
    assert (process.returncode, drained) == (code, True)
    assert (tmp_path / "signals").read_text().split() == [name]
    assert messages == "medadv: stopped on request; the next run goes on\n"


def test_the_cron_line_calls_nightly_with_a_spec() -> None:
    line = next(row for row in (SCHEDULE / "crontab").read_text().splitlines() if row[:1].isdigit())
    minute, hour, day, month, weekday, command = line.split(None, 5)
    assert (0 <= int(minute) < 60, 0 <= int(hour) < 24, day, month, weekday) == (True, True, "*", "*", "*")
    assert command.split()[1].endswith("scripts/schedule/nightly")
    # An unescaped percent sign would end a cron command.
    assert "%" not in command


@pytest.mark.skipif(shutil.which("systemd-analyze") is None, reason="no systemd-analyze")
def test_systemd_accepts_service_and_timer(tmp_path: Path) -> None:
    nightly = script(tmp_path / "nightly", "exit 0")
    service = (SCHEDULE / "medadv@.service").read_text().replace("/opt/medadv/scripts/schedule/nightly", str(nightly))
    (tmp_path / "medadv@.service").write_text(service)
    shutil.copy(SCHEDULE / "medadv@.timer", tmp_path)
    units = [str(tmp_path / "medadv@.service"), str(tmp_path / "medadv@.timer")]
    done = subprocess.run(["systemd-analyze", "verify", "--man=no", *units], capture_output=True, text=True, check=False)
    assert [line for line in done.stderr.splitlines() if "medadv@" in line] == []


@pytest.mark.slow
def test_a_job_array_of_two_parts_and_its_merge(tmp_path: Path) -> None:
    """sbatch stands for itself by running each task at once; one part is preempted first and asks to be queued again."""
    draw_pictures(tmp_path / "data", 8)
    save_victim(tmp_path / "victim.safetensors", "monai:densenet121", CLASSIFIER)
    spec = tiny_spec(tmp_path)
    tools = tmp_path / "bin"
    tools.mkdir()
    script(tools / "medadv", f'echo "$@" >>"{tmp_path}/calls"; exec "{sys.executable}" -m medadv "$@"')
    script(tools / "scontrol", f'echo "$@" >>"{tmp_path}/requeued"')
    script(
        tools / "sbatch",
        """
        case $1 in
          --parsable)
            shift 2
            for task in 1 2; do SLURM_ARRAY_JOB_ID=7 SLURM_ARRAY_TASK_ID=$task "$@" >&2 || exit 9; done
            echo "7;cluster" ;;
          --dependency=afterany:7) shift; SLURM_JOB_ID=8 "$@" >&2 ;;
          *) exit 8 ;;
        esac""",
    )
    environment = {**os.environ, "PATH": f"{tools}:{os.environ['PATH']}"}
    done = subprocess.run(
        [SCHEDULE / "array.sh", "submit", str(spec), "2"], env=environment, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    calls = (tmp_path / "calls").read_text().splitlines()
    assert [" ".join(call.split()[:1] + call.split()[2:4]) for call in calls] == [
        "plan --freeze",
        "run --part 1/2",
        "run --part 2/2",
        "run --grace 45",
    ]
    assert not (tmp_path / "requeued").exists()
    manifest = json.loads((tmp_path / "corpus" / "manifest.json").read_text())
    assert (manifest["samples"], manifest["run"]["status"]) == (8, "complete")
    assert verify(tmp_path / "corpus") == []
    assert "0 new shards" not in done.stderr


@pytest.mark.parametrize("takes_signals", ["trap 'exit 143' USR1", "# killed while it starts"])
@pytest.mark.parametrize(("step", "again"), [("part", "requeue 7_3\n"), ("merge", "requeue 8\n")])
@pytest.mark.parametrize("name", ["USR1", "TERM"])
def test_a_drained_job_is_queued_again_and_a_cancelled_one_is_not(
    tmp_path: Path, takes_signals: str, step: str, again: str, name: str
) -> None:
    tools = tmp_path / "bin"
    tools.mkdir()
    # A stand-in that drains as medadv does: it says when it runs, and ends with 143 on SIGUSR1.
    script(tools / "medadv", f"{takes_signals}\ntouch '{tmp_path}/running'; while :; do sleep 0.1; done")
    script(tools / "scontrol", f'echo "$@" >"{tmp_path}/requeued"')
    numbers = {"SLURM_ARRAY_JOB_ID": "7", "SLURM_ARRAY_TASK_ID": "3", "SLURM_JOB_ID": "8"}
    environment = {**os.environ, "PATH": f"{tools}:{os.environ['PATH']}", **numbers}
    command = 'script=$1; "$script" "$3" spec.yaml 4 & while [ ! -e "$2" ]; do sleep 0.1; done; kill -$4 $!; wait $!'
    done = subprocess.run(
        ["bash", "-c", command, "bash", SCHEDULE / "array.sh", tmp_path / "running", step, name], env=environment, timeout=60, check=False
    )
    requeued = tmp_path / "requeued"
    if name == "USR1":
        assert (done.returncode, requeued.read_text()) == (0, again)
    else:
        # SLURM cancels a job by SIGTERM.
        assert done.returncode in {138, 143}
        assert not requeued.exists()


@pytest.mark.parametrize(
    ("walltime", "seconds"),
    [("90", 5400), ("10:30", 630), ("04:00:00", 14400), ("1-12", 129600), ("1-12:30", 131400), ("2-00:00:05", 172805)],
)
def test_workers_end_before_slurm_ends_them_whatever_time_they_have(
    walltime: str, seconds: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, jobqueue: ModuleType
) -> None:
    asked: list[str] = []
    monkeypatch.setattr(jobqueue, "SLURMCluster", lambda **given: asked.extend(given["worker_extra_args"]) or nullcontext(MagicMock()))
    monkeypatch.setattr(subprocess, "run", lambda *_, **__: SimpleNamespace(returncode=0))
    monkeypatch.setattr(sys, "argv", ["jobqueue.py", str(tmp_path / "spec.yaml"), "--walltime", walltime])
    assert jobqueue.main() == 0
    lifetime, stagger = (int(asked[asked.index(option) + 1].removesuffix("s")) for option in ("--lifetime", "--lifetime-stagger"))
    assert 0.9 * seconds < lifetime < lifetime + stagger < seconds


@pytest.mark.parametrize("walltime", ["", "4h", "1:2:3:4", "-1", "a-1", "1-", "1:2:3:4-1", "²"])
def test_a_time_that_slurm_does_not_take_is_refused(
    walltime: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], jobqueue: ModuleType
) -> None:
    monkeypatch.setattr(sys, "argv", ["jobqueue.py", str(tmp_path / "spec.yaml"), f"--walltime={walltime}"])
    assert jobqueue.main() == 2
    assert capsys.readouterr().err.startswith(f"jobqueue: --walltime {walltime}: write a time")
