"""What scheduling costs when there is nothing to compute: a plan of a million samples, and a hundred thousand empty shards through Dask.

    python scripts/bench/scheduling.py [--samples 1000000] [--shards 100000] [--workers 2]

The scheduler runs in a process of its own, so that its memory and the client's are told apart. The shards go through the same loop as in
any run; a worker answers each at once.
"""

import argparse
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import psutil

from medadv.common.hashing import hash_bytes
from medadv.common.log import Log
from medadv.common.progress import SILENT
from medadv.common.stop import Stop
from medadv.corpus.folder import Workspace
from medadv.datasets.source import Source
from medadv.plan.cut import cut
from medadv.plan.frozen import freeze
from medadv.plan.model import PlannedSample, PlannedShard
from medadv.prepare.settings import frozen_settings
from medadv.run import cluster
from medadv.run.drive import drive
from medadv.run.job import Job, ShardMade
from medadv.run.keys import write_keys
from medadv.run.lock import held
from medadv.run.watch import Watch
from medadv.spec.execution import ExecutionSettings
from medadv.spec.reading import parse_spec
from medadv.victims.victim import Identity

MIB = 1 << 20
NO_PAGES = {"DASK_DISTRIBUTED__SCHEDULER__HTTP__ROUTES": "[]", "DASK_DISTRIBUTED__WORKER__HTTP__ROUTES": "[]"}
SPEC = {
    "name": "nothing",
    "data": {"modality": "fundus", "task": "classification", "layout": "csv", "path": "labels.csv", "label": "grade"},
    "preprocess": {"size": [224, 224]},
    "victim": {"network": "monai:densenet121", "normalize": {"mean": [0.5] * 3, "std": [0.25] * 3}},
    "attacks": {"pgd": {"attack": "pgd", "epsilon": 4}},
}


def empty(job: Job) -> ShardMade:
    """A shard without work."""
    return ShardMade(job.name, 1, 0, {}, {}, 0.0)


def plan(folder: Path, samples: int) -> None:
    """Cut and freeze a plan, and say how long it took."""
    made = [
        ((3, 224, 224), PlannedSample(name, name, name, Source((f"images/{number}.png",), 0)))
        for number in range(samples)
        for name in [hash_bytes(str(number).encode())[:32]]
    ]
    drawn = time.monotonic()
    shards = cut(made, ExecutionSettings())
    spec = parse_spec(SPEC, "benchmark")
    settings = frozen_settings(spec, Identity("0" * 64, None, 0), "level8", None)
    frozen = freeze(folder, 0, settings, shards, spec, folder, folder)
    took = time.monotonic() - drawn
    size = (folder / "shards.jsonl").stat().st_size
    print(f"plan: {samples} samples in {len(shards)} shards cut and frozen in {took:.1f} s, {size / MIB:.0f} MiB on disk")
    read = time.monotonic()
    count = sum(len(shard.samples) for shard in frozen.lines())
    print(f"plan: {count} samples read back in {time.monotonic() - read:.1f} s; this process peaks at {peak():.0f} MiB", flush=True)


def peak() -> float:
    """Largest resident size of this process so far, MiB."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return int(next(line.split()[1] for line in lines if line.startswith("VmHWM"))) / 1024


def push(folder: Path, shards: int, workers: int) -> None:
    """Drive empty shards through a scheduler and its workers in processes of their own."""
    workspace = Workspace(folder)
    workspace.make()
    scheduler_file = folder / "scheduler.json"
    cert, key = write_keys(folder / "keys")
    tls = ["--protocol", "tls", "--tls-ca-file", str(cert), "--tls-cert", str(cert), "--tls-key", str(key), "--no-dashboard"]
    dask = [sys.executable, "-m", "distributed.cli.dask_scheduler", "--host", "127.0.0.1", "--port", "0", *tls]
    quiet = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL, "env": {**os.environ, **NO_PAGES}}
    scheduler = subprocess.Popen([*dask, "--scheduler-file", str(scheduler_file)], **quiet)
    work = [sys.executable, "-m", "distributed.cli.dask_worker", "--scheduler-file", str(scheduler_file), "--nthreads", "1", *tls]
    address = cluster.Address(file=scheduler_file, tls_ca=cert, tls_cert=cert, tls_key=key)
    started = [subprocess.Popen(work, **quiet) for _ in range(workers)]
    try:
        while not scheduler_file.exists():
            time.sleep(0.2)
        with held(workspace.lock) as hold, cluster.connect(workers, 1, "cpu", address) as pool:
            pool.client.wait_for_workers(workers)
            # So that importing torch is not counted.
            pool.client.run(empty, Job(str(folder), 0, PlannedShard(0, (3, 224, 224), (), 8), False, "", ""))
            # The loop submits `make`; here every job is answered at once instead.
            submit = pool.submit
            pool.submit = lambda name, _, job: submit(name, empty, job)  # type: ignore[method-assign]
            watch = Watch(SILENT, Log(workspace.log), shards, shards)
            before, largest = peak(), 0

            def jobs() -> Iterator[Job]:
                nonlocal largest
                for number in range(shards):
                    if number % 500 == 499:
                        largest = max(largest, psutil.Process(scheduler.pid).memory_info().rss)
                    yield Job(str(folder), 0, PlannedShard(number, (3, 224, 224), (), 8), False, str(hold.path), hold.token)

            began = time.monotonic()
            drive(pool, workspace, jobs(), hold, Stop(), 0.0, watch)
            took = time.monotonic() - began
        print(
            f"scheduling: {watch.done} empty shards with {workers} workers in {took:.0f} s, {watch.done / took:.0f} shards/s; scheduler "
            f"peaks at {largest / MIB:.0f} MiB, client at {peak():.0f} MiB ({before:.0f} before)"
        )
    finally:
        for process in [*started, scheduler]:
            process.terminate()
        for process in [*started, scheduler]:
            process.wait()


def main() -> None:
    """Both parts, each in a folder that is removed again."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--samples", type=int, default=1_000_000)
    parser.add_argument("--shards", type=int, default=100_000)
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--part", choices=["plan", "push"])
    arguments = parser.parse_args()
    if arguments.part is None:
        # Two processes, so that the plan's memory is not counted as the client's.
        for part in ("plan", "push"):
            subprocess.run([sys.executable, *sys.argv, "--part", part], check=True)
        return
    with tempfile.TemporaryDirectory() as folder:
        if arguments.part == "plan":
            plan(Path(folder), arguments.samples)
        else:
            push(Path(folder), arguments.shards, arguments.workers)


if __name__ == "__main__":
    main()
