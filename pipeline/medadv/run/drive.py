"""Hand shards to workers and deal with what comes back: results, deaths, signals."""

import time
from collections.abc import Callable, Iterator
from dataclasses import replace

from medadv.common.errors import RunError
from medadv.common.failures import MEMORY_ADVICE, explain
from medadv.common.stop import Stop
from medadv.corpus.folder import Workspace
from medadv.run import journal
from medadv.run.cluster import Pool, WorkersDiedError
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
    remember: Callable[[list[str]], None],
) -> None:
    """Have every job made, or return early when `stop` was signalled and the running shards had their grace time.

    remember: called with the ids of samples that turned out to kill workers, before their shard is tried again without them.

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
            running[name] = _without(job, value.poison, workspace, watch, remember)
            pool.submit(name, make, running[name])
        elif isinstance(error, SuspectedError | WorkersDiedError):
            running[name] = _suspected(job, watch)
            pool.submit(name, diagnose, running[name])
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


def _suspected(job: Job, watch: Watch) -> Job:
    if job.deaths == 1:
        raise RunError(f"workers keep dying on {job.name}, and no sample of it kills one alone: most likely memory; {MEMORY_ADVICE}")
    watch.message(f"{job.deaths} workers died on {job.name}: trying its samples one by one")
    watch.log("deaths", shard=job.name, deaths=job.deaths)
    return job


def _without(job: Job, poison: tuple[str, ...], workspace: Workspace, watch: Watch, remember: Callable[[list[str]], None]) -> Job:
    """The job to try next: without the samples that kill, or unchanged one last time."""
    journal.end(workspace, job.name)
    watch.log("diagnosed", shard=job.name, poison=list(poison))
    if not poison:
        return replace(job, deaths=1)
    watch.message(f"{job.name}: {len(poison)} samples kill a worker alone; they are quarantined")
    remember(list(poison))
    return replace(job, excluded=(*job.excluded, *poison))
