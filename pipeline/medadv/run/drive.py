"""Hand shards to workers and deal with what comes back: results, deaths, signals."""

import time
from collections.abc import Iterator

from medadv.common.errors import RunError
from medadv.common.failures import explain
from medadv.common.stop import Stop
from medadv.corpus.folder import Workspace
from medadv.run import journal
from medadv.run.cluster import Pool, WorkersDiedError
from medadv.run.deaths import suspect, without
from medadv.run.job import Diagnosis, Job, NotWantedError, ShardMade, SuspectedError
from medadv.run.lock import Hold
from medadv.run.suspects import diagnose
from medadv.run.watch import Watch
from medadv.run.worker import make

TICK_S = 0.25
HALT_S = 5.0
"""How long workers get to notice, between two batches, that the grace time is over."""


def drive(
    pool: Pool,
    workspace: Workspace,
    jobs: Iterator[Job],
    hold: Hold,
    stop: Stop,
    grace_s: float,
    watch: Watch,
) -> None:
    """Have every job made, or return early when `stop` was signalled and the running shards had their grace time.

    Raises:
        RunError: workers keep dying on a shard of which no sample is to blame, or the machine failed otherwise.
    """
    running: dict[str, Job] = {}
    deadline: float | None = None
    while True:
        if stop.signal is None:
            _refill(pool, running, jobs)
        if not running:
            return
        if stop.signal is not None:
            if deadline is None:
                watch.message(f"stopping: running shards get {grace_s:g} s to finish; a second signal ends them now")
                hold.tell("draining")
                deadline = time.monotonic() + grace_s
            if hold.state == "draining" and (time.monotonic() > deadline or stop.count > 1):
                hold.tell("halting")
                deadline = time.monotonic() + HALT_S
            if hold.state == "halting" and (time.monotonic() > deadline or stop.count > 2):
                return
        answer = pool.wait(TICK_S)
        watch.tick()
        if answer is None:
            continue
        name, value, error = answer
        job = running.pop(name)
        if isinstance(value, ShardMade):
            watch.made(value)
        elif stop.signal is not None:
            continue
        elif isinstance(value, Diagnosis):
            running[name] = without(job, value, workspace, watch)
            pool.submit(name, make, running[name])
        elif isinstance(error, SuspectedError | WorkersDiedError):
            suspect(job, error.deaths if isinstance(error, SuspectedError) else journal.deaths(workspace, name, job.token), watch)
            running[name] = job
            pool.submit(name, diagnose, job)
        elif isinstance(error, NotWantedError):
            raise RunError("another run took this corpus over; every finished shard is kept")
        elif error is not None:
            raise explain(error, workspace.root) or error


def _refill(pool: Pool, running: dict[str, Job], jobs: Iterator[Job]) -> None:
    room = pool.window() - len(running)
    while room > 0 and (job := next(jobs, None)) is not None:
        running[job.name] = job
        pool.submit(job.name, make, job)
        room -= 1
