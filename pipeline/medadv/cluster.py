"""Dask: a local cluster, or a scheduler that runs already. The scheduler decides who makes a shard and when, never how."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import dask
from distributed import Client, LocalCluster, as_completed

from medadv import worker
from medadv.errors import RunError

# A task whose worker type never comes would wait for ever; this turns it into an error.
NO_WORKERS_TIMEOUT = "5 minutes"
AHEAD = 3
"""Shards submitted per worker: enough to keep it busy, few enough that a million shards do not live in the scheduler."""


@contextmanager
def connect(workers: int, scheduler: str | None) -> Iterator[Client]:
    """A client of a local cluster with `workers` single-threaded processes on loopback, or of the scheduler at an address."""
    with dask.config.set({"distributed.scheduler.no-workers-timeout": NO_WORKERS_TIMEOUT}):
        if scheduler is not None:
            try:
                client = Client(scheduler, timeout="30s", set_as_default=False)
            except OSError as error:
                raise RunError(f"no scheduler answers at {scheduler} ({error})") from None
            with client:
                yield client
            return
        with (
            LocalCluster(
                n_workers=workers,
                threads_per_worker=1,
                processes=True,
                host="127.0.0.1",
                dashboard_address="127.0.0.1:0",
                silence_logs=50,
                memory_limit=0,
            ) as cluster,
            Client(cluster, set_as_default=False) as client,
        ):
            yield client


def default_workers(threads: int) -> int:
    """One worker per `threads` cores that this process may use."""
    return max(1, len(os.sched_getaffinity(0)) // threads)


def make_shards(client: Client, jobs: Iterator[tuple[str, int, dict[str, Any], bool]]) -> Iterator[dict[str, Any]]:
    """Run `worker.make` on every job and yield results as they come; failures of a task are raised here.

    At most `AHEAD` shards per worker are known to the scheduler at any time.
    """
    running = as_completed(loop=client.loop)
    window = AHEAD * max(1, len(client.scheduler_info(n_workers=-1)["workers"]))
    waiting = 0

    def submit() -> bool:
        job = next(jobs, None)
        if job is None:
            return False
        # Not pure: a shard made again after its receipt was lost is a new task.
        running.add(client.submit(worker.make, *job, pure=False, key=f"shard-{job[2]['index']:05d}"))
        return True

    while waiting < window and submit():
        waiting += 1
    for future in running:
        yield future.result()
        if not submit():
            waiting -= 1
            if waiting == 0:
                return
