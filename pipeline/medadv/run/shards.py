"""Which shards are missing, and who makes them?"""

from collections.abc import Iterator, Sequence

from medadv.common.machine import default_workers
from medadv.corpus import private
from medadv.corpus.folder import Workspace, shard_name
from medadv.corpus.quarantine import QuarantineRecord
from medadv.corpus.receipt import committed
from medadv.plan.frozen import FrozenPlan, live, live_lines
from medadv.run import cluster
from medadv.run.drive import drive
from medadv.run.finish import finish, recorded
from medadv.run.job import Job
from medadv.run.watch import Watch
from medadv.run.working import Work
from medadv.spec.execution import ExecutionSettings


def look_through(workspace: Workspace, plans: Sequence[FrozenPlan]) -> tuple[list[str], list[QuarantineRecord]]:
    """Names of the shards still to be made, and the quarantine records of those that are committed."""
    missing: list[str] = []
    records: list[QuarantineRecord] = []
    for plan, index in live(plans):
        name = shard_name(index)
        receipt = committed(workspace, name, plan.hash)
        if receipt is None:
            missing.append(name)
        else:
            records += receipt.quarantined
    return missing, records


def make_missing(work: Work, plans: Sequence[FrozenPlan], missing: Sequence[str], execution: ExecutionSettings) -> None:
    """Have the missing shards made. StoppedError after a signal, with a manifest of what there is."""
    if not missing:
        return
    workspace, options = work.workspace, work.options
    wanted = set(missing)
    samples = sum(len(shard.samples) for _, shard in live_lines(plans) if shard_name(shard.index) in wanted)
    watch = Watch(work.progress, work.log, len(missing), samples)
    device = plans[0].settings.execution.device
    workers = default_workers(execution.threads, device) if execution.workers == "auto" else execution.workers
    work.progress("shards", 0, len(missing), "starting workers")
    try:
        count = min(workers, len(missing))
        with cluster.connect(count, execution.threads, device, options.scheduler, dashboard=options.dashboard) as pool:
            watch.message(pool.about)
            jobs = jobs_of(work, plans, wanted)
            drive(pool, workspace, jobs, work.hold, work.stop, options.grace_s, watch)
    finally:
        private.sweep(workspace)
    if work.stop.signal is not None:
        if work.stop.count < 2:
            finish(work, plans, recorded(workspace))
        work.log("stopped", signal=work.stop.signal, made=watch.done, of=len(missing))
        raise work.stop.error(f"{watch.done} of {len(missing)} shards were made and are kept; run again to go on")


def jobs_of(work: Work, plans: Sequence[FrozenPlan], wanted: set[str]) -> Iterator[Job]:
    """The jobs of the wanted shards, one at a time."""
    workspace = work.workspace
    excluded = set(private.poison(workspace))
    for plan, shard in live_lines(plans):
        if shard_name(shard.index) in wanted:
            poison = tuple(sample.id for sample in shard.samples if sample.id in excluded)
            yield Job(
                str(workspace.root),
                plan.generation,
                shard,
                work.options.trust_code,
                str(work.hold.path),
                work.hold.token,
                poison,
            )
