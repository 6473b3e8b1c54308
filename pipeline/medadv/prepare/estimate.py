"""How long a run would take here: one batch of it is loaded, attacked for one step of each attack, and scored."""

import math
import time
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import torch

from medadv.attacks.cost import passes
from medadv.batches.judging import batch_of
from medadv.batches.loading import batches
from medadv.batches.trial import Trial
from medadv.common.machine import set_threads
from medadv.datasets.reader import Reader
from medadv.plan.model import PlannedShard
from medadv.plan.plan_settings import ExecutionFacts
from medadv.spec.run_spec import RunSpec
from medadv.victims.loading import VictimRequest
from medadv.victims.speed import Profile


def seconds_to_make(
    spec: RunSpec,
    execution: ExecutionFacts,
    shards: Sequence[PlannedShard],
    request: VictimRequest,
    root: Path,
    workers: int,
    fits: Mapping[str, int] | None = None,
) -> float | None:
    """Seconds until `shards` are made by so many workers of this machine, start-up not counted; None if nothing of the first can be read.

    execution: the plan's settings, as far as they are known.  request: for the victim.  root: folder of the data.  fits: by attack,
    how many samples its universal perturbation is fitted to before, by one process.
    """
    first = shards[0]
    device = torch.device(execution.device)
    threads = torch.get_num_threads()
    set_threads(spec.execution.threads)
    try:
        victim = request.load(device, first.shape, Profile.of(execution.profile))
        reader = Reader(root, spec.data, spec.preprocess, spec.victim.head == "sigmoid")
        began = time.perf_counter()
        loaded = next((batch.loaded for batch in batches(first, reader, victim.scored) if batch.loaded), [])
        if not loaded:
            return None
        seconds = loading = time.perf_counter() - began
        # Labels that are the victim's own answers take a first pass, which warms up, as does this one.
        batch = batch_of(loaded, victim.scored, device)
        victim.scored.predict(batch.images)
        trial = Trial(batch, spec.attacks, spec.execution.seed)
        scoring = _timed(lambda: victim.scored.predict(batch.images))
        seconds += scoring
        fitting = 0.0
        for name, settings in [(name, each) for name, attack in spec.attacks.items() for each in attack.each]:
            # The first step of `last_step` smooths nothing and costs less than the others, and what comes before and after the steps
            # (starts, last looks) would count for more than it is, so that passes are compared, not steps.
            count = min(settings.steps, 2 if settings.smooth == "last_step" else 1)
            few = settings.model_copy(update={"steps": count})
            if settings.fit is not None:
                one = _timed(partial(trial.attack, victim, name, few)) / few.steps + loading
                fitting += settings.steps * math.ceil((fits or {}).get(name, 0) / len(loaded)) * one
                seconds += scoring
                continue
            seconds += sum(passes(settings)) / sum(passes(few)) * _timed(partial(trial.attack, victim, name, few)) + scoring
    finally:
        torch.set_num_threads(threads)
    # Images of other sizes take time by their size; no worker helps another with its shard.
    batches_worth = sum(len(shard.samples) * math.prod(shard.shape) for shard in shards) / (len(loaded) * math.prod(first.shape))
    return fitting + seconds * batches_worth / min(workers, len(shards))


def _timed(action: Callable[[], Any]) -> float:
    began = time.perf_counter()
    action()
    if torch.cuda.is_initialized():
        torch.cuda.synchronize()
    return time.perf_counter() - began
