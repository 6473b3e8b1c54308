"""Dask with real processes: a cluster started by hand under TLS, workers that die, samples that kill, and a short chaos test."""

import json
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import pytest
from tests.conftest import CLASSIFIER, draw_pictures, save_victim, tiny_spec

from medadv.common import machine
from medadv.common.threads import SHARERS
from medadv.evidence.verify import verify
from medadv.prepare.request import Address
from medadv.run import cluster
from medadv.run.keys import write_keys

ROOT = Path(__file__).resolve().parents[2]
CHAOS = ROOT / "scripts" / "bench" / "chaos.py"
KILLS = 5


@pytest.fixture
def processes() -> Iterator[list["subprocess.Popen[str]"]]:
    """Processes that are ended with the test."""
    started: list[subprocess.Popen[str]] = []
    yield started
    for process in started:
        process.kill()
        process.communicate()


def address_in(file: Path, scheduler: "subprocess.Popen[str]") -> str:
    """What a scheduler has written, once that is whole."""
    while True:
        assert scheduler.poll() is None
        with suppress(FileNotFoundError, ValueError):
            return str(json.loads(file.read_text())["address"])
        time.sleep(0.1)


@pytest.mark.slow
def test_two_workers_under_tls_finish_a_run_though_one_is_killed(
    tmp_path: Path, tiny_corpus: Path, processes: list["subprocess.Popen[str]"]
) -> None:
    cert, key = map(str, write_keys(tmp_path / "keys"))
    tls = ["--tls-ca-file", cert, "--tls-cert", cert, "--tls-key", key]
    draw_pictures(tmp_path / "data", 10)
    save_victim(tmp_path / "victim.safetensors", "monai:densenet121", CLASSIFIER)
    spec = tiny_spec(tmp_path)
    environment = {**os.environ, "DASK_DISTRIBUTED__WORKER__PRELOAD": "[]"}

    def spawn(*command: str) -> "subprocess.Popen[str]":
        process = subprocess.Popen(
            [sys.executable, "-m", *command],
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL if command[0].startswith("distributed") else subprocess.PIPE,
            text=True,
            env=environment,
        )
        processes.append(process)
        return process

    # It chooses its port: one that is found free here may be somebody else's by then.
    file, any_port = tmp_path / "scheduler.json", ["--host", "tls://127.0.0.1", "--port", "0"]
    scheduler = spawn("distributed.cli.dask_scheduler", *any_port, *tls, "--no-dashboard", "--scheduler-file", str(file))
    address = address_in(file, scheduler)
    workers = [spawn("distributed.cli.dask_worker", address, *tls, "--nthreads", "1", "--no-nanny") for _ in range(2)]
    run = spawn("medadv", "run", str(spec), "--scheduler", address, "--tls-ca", cert, "--tls-cert", cert, "--tls-key", key, "--json")
    writing = tmp_path / "corpus" / ".medadv" / "writing"
    deadline = time.monotonic() + 240
    while not any(writing.glob("*/shard-*")) and run.poll() is None and time.monotonic() < deadline:
        time.sleep(0.01)
    workers[0].send_signal(signal.SIGKILL)
    output, messages = run.communicate(timeout=240)
    assert run.returncode == 0, messages
    assert f"Dask scheduler {address}" in messages
    assert json.loads(output)["content_root"] == json.loads((tiny_corpus / "manifest.json").read_text())["content_root"]
    assert verify(tmp_path / "corpus") == []
    assert list((tmp_path / "corpus").rglob(".tmp*")) == []
    assert not writing.exists()


def test_each_gpu_has_a_worker_that_sees_it_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    """Without a GPU: the nannies' environment is what pins one, and it can be looked at anywhere."""
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "GPU-a, GPU-b,GPU-c")
    assert machine.visible_gpus() == ["GPU-a", "GPU-b", "GPU-c"]
    assert machine.default_workers(4, "cuda") == 3
    with cluster.connect(2, 1, "cuda", Address()) as pool:
        assert "2 workers on GPU GPU-a, GPU-b" in pool.about
        seen = pool.client.run(os.getenv, "CUDA_VISIBLE_DEVICES")
        shares = pool.client.run(os.getenv, SHARERS)
    assert sorted(seen.values()) == ["GPU-a", "GPU-b"]
    assert set(shares.values()) == {"2"}
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")
    assert machine.visible_gpus() == []
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES")
    monkeypatch.setattr(machine.torch.cuda, "device_count", lambda: 2)
    assert machine.visible_gpus() == ["0", "1"]


def test_no_worker_and_no_scheduler_are_errors_not_waits(tmp_path: Path, processes: list["subprocess.Popen[str]"]) -> None:
    draw_pictures(tmp_path / "data", 2)
    save_victim(tmp_path / "victim.safetensors", "monai:densenet121", CLASSIFIER)
    spec = tiny_spec(tmp_path)
    file = tmp_path / "scheduler.json"
    command = ["distributed.cli.dask_scheduler", "--host", "127.0.0.1", "--port", "0", "--no-dashboard", "--scheduler-file", str(file)]
    processes.append(subprocess.Popen([sys.executable, "-m", *command], stderr=subprocess.DEVNULL, text=True))
    address_in(file, processes[0])
    environment = {**os.environ, "DASK_DISTRIBUTED__SCHEDULER__NO_WORKERS_TIMEOUT": "3s"}
    done = subprocess.run(
        [sys.executable, "-m", "medadv", "run", str(spec), "--scheduler-file", str(file), "--insecure-scheduler"],
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 4, done.stderr
    assert re.search(r"^medadv: no Dask worker .* run again$", done.stderr, re.MULTILINE)


def test_a_sample_that_kills_its_worker_is_quarantined_alone(tmp_path: Path) -> None:
    """A network that ends its process on one white picture: three deaths, each sample tried alone, that one left out."""
    draw_pictures(tmp_path / "data", 4)
    from PIL import Image

    Image.new("RGB", (32, 32), (255, 255, 255)).save(tmp_path / "data" / "002.png")
    save_victim(tmp_path / "victim.safetensors", "monai:densenet121", CLASSIFIER)
    (tmp_path / "deadly.py").write_text(
        "import os, signal\n"
        "from monai.networks.nets import DenseNet121\n"
        "class Deadly(DenseNet121):\n"
        "    def forward(self, x):\n"
        "        if bool((x.flatten(1).amin(1) > 1.5).any()):\n"
        "            os.kill(os.getpid(), signal.SIGKILL)\n"
        "        return super().forward(x)\n"
    )
    spec = tiny_spec(tmp_path, victim__network="python:deadly:Deadly")
    done = subprocess.run(
        [sys.executable, "-m", "medadv", "run", str(spec), "--trust-code", "--json"],
        env={**os.environ, "PYTHONPATH": str(tmp_path)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 3, done.stderr
    assert json.loads(done.stdout)["samples"] == 3
    records = [json.loads(line) for line in (tmp_path / "corpus" / "quarantine.jsonl").read_text().splitlines()]
    assert [record["code"] for record in records] == ["kills-worker"]
    receipt = json.loads((tmp_path / "corpus" / "shards" / "shard-00000.json").read_text())
    assert sum(place is None for batch in receipt["batches"] for place in batch) == 1
    events = [json.loads(line) for line in (tmp_path / "corpus" / ".medadv" / "logs" / "run.jsonl").read_text().splitlines()]
    assert [event["event"] for event in events if event["event"] in ("deaths", "diagnosed")] == ["deaths", "diagnosed"]
    assert verify(tmp_path / "corpus") == []


@pytest.mark.slow
def test_killed_runs_and_workers_leave_the_corpus_of_an_undisturbed_run(tmp_path: Path) -> None:
    """The short form of scripts/bench/chaos.py."""
    done = subprocess.run(
        [sys.executable, str(CHAOS), "--kills", str(KILLS), "--workers", "2", "--folder", str(tmp_path)],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith(f"{KILLS} SIGKILLs")
