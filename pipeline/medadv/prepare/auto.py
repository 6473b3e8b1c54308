"""What `auto` stands for in a new plan: batch size and execution profile, measured on its own first samples and frozen with it."""

import math
from collections.abc import Sequence
from functools import partial
from pathlib import Path

import torch

from medadv.batches.judging import batch_of
from medadv.batches.loading import Loaded, batches
from medadv.batches.trial import Trial
from medadv.common.machine import default_workers, set_threads, worker_memory
from medadv.datasets.reader import Reader
from medadv.plan.cut import cut
from medadv.plan.model import PlannedSample, PlannedShard
from medadv.plan.plan_settings import ExecutionFacts, TuningRecord
from medadv.prepare.batch_size import largest_batch
from medadv.prepare.choose_profile import Tell, choose_profile
from medadv.spec.run_spec import RunSpec
from medadv.victims.loading import VictimRequest
from medadv.victims.speed import Profile
from medadv.victims.victim import Victim

Fresh = Sequence[tuple[tuple[int, ...], PlannedSample]]


def as_planned(spec: RunSpec, execution: ExecutionFacts, before: ExecutionFacts) -> ExecutionFacts:
    """Frozen execution settings of a spec whose corpus has a plan: what was measured then is not measured again."""
    batch = before.batch_size if spec.execution.batch_size == "auto" else execution.batch_size
    return execution.model_copy(update={"profile": before.profile, "batch_size": batch})


def measured(
    spec: RunSpec, execution: ExecutionFacts, exact: Profile, fresh: Fresh, request: VictimRequest, root: Path, tell: Tell
) -> tuple[ExecutionFacts, list[TuningRecord]]:
    """Frozen execution settings with everything that is `auto` resolved, and the record of the profiles tried.

    spec: of a corpus without a plan.  execution: its settings so far.  exact: its fp32 profile.  fresh: shape and sample of all that is to
    be planned.  request: for the victim.  root: folder of the data.  tell: receives a line for each profile that is dropped.
    """
    wanted = spec.execution
    execution = execution.model_copy(update={"profile": exact.facts()})
    if "auto" not in (wanted.batch_size, wanted.precision):
        return execution, []
    device = torch.device(execution.device)
    threads = torch.get_num_threads()
    set_threads(wanted.threads)
    reader = Reader(root, spec.data, spec.preprocess, spec.victim.head == "sigmoid")
    try:
        if wanted.batch_size == "auto":
            largest = max(cut(fresh, wanted), key=lambda shard: math.prod(shard.shape))
            victim = request.load(device, largest.shape, exact)
            if loaded := _first(largest, reader, victim):
                workers = default_workers(wanted.threads, device.type) if wanted.workers == "auto" else wanted.workers
                memory = worker_memory(workers) if wanted.memory_gib is None else int(wanted.memory_gib * (1 << 30))
                trial = Trial(batch_of(loaded[:1], victim.scored, device), spec.attacks, wanted.seed)
                batch = largest_batch(victim, trial, wanted.shard_size, memory)
                execution = execution.model_copy(update={"batch_size": batch})
                tell(f"batches of {batch} fit")
        if wanted.precision == "auto":
            shard = cut(fresh, wanted.model_copy(update={"batch_size": execution.batch_size}))[0]
            victim = request.load(device, shard.shape, exact)
            if loaded := _first(shard, reader, victim):
                trial = Trial(batch_of(loaded, victim.scored, device), spec.attacks, wanted.seed)
                profile, records = choose_profile(partial(request.load, device, shard.shape), exact, trial, tell)
                tell(f"attacks run {profile.name}")
                return execution.model_copy(update={"profile": profile.facts()}), records
        return execution, []
    finally:
        torch.set_num_threads(threads)


def _first(shard: PlannedShard, reader: Reader, victim: Victim) -> list[Loaded]:
    """The first batch of which anything can be loaded."""
    return next((batch.loaded for batch in batches(shard, reader, victim.scored) if batch.loaded), [])
