"""How long a run would take here: one batch of it is loaded, attacked for one step of each attack, and scored."""

import math
import time
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import torch

from medadv.batches.loading import batches
from medadv.batches.trial import Trial
from medadv.datasets.reader import Reader
from medadv.plan.model import PlannedShard
from medadv.plan.plan_settings import ExecutionFacts
from medadv.spec.run_spec import RunSpec
from medadv.victims.loading import load_victim
from medadv.victims.speed.profiles import Profile, with_profile


def seconds_to_make(
    spec: RunSpec, execution: ExecutionFacts, shards: Sequence[PlannedShard], base: Path, root: Path, workers: int, trust_code: bool
) -> float | None:
    """Seconds until `shards` are made by so many workers of this machine, start-up not counted; None if nothing of the first can be read.

    execution: the plan's settings, as far as they are known.  base, root: folders of the spec and of the data.
    """
    first = shards[0]
    device = torch.device(execution.device)
    threads = torch.get_num_threads()
    torch.set_num_threads(spec.execution.threads)
    try:
        victim, _ = load_victim(spec.victim, spec.data.task, base, device=device, sample_shape=first.shape, trust_code=trust_code)
        victim = with_profile(victim, Profile.of(execution.profile), first.shape)
        reader = Reader(root, spec.data, spec.preprocess, spec.victim.head == "sigmoid")
        began = time.perf_counter()
        loaded = next((batch.loaded for batch in batches(first, reader, victim) if batch.loaded), [])
        if not loaded:
            return None
        seconds = time.perf_counter() - began
        trial = Trial(loaded, spec.attacks, spec.execution.seed, device)
        labels = trial.labels(victim)  # the first pass, which warms up
        scoring = _timed(lambda: victim.predict(trial.images()))
        seconds += scoring
        for name, settings in spec.attacks.items():
            # The first step of `last_step` smooths nothing and costs less than the others.
            count = min(settings.steps, 2 if settings.smooth == "last_step" else 1)
            few = settings.model_copy(update={"steps": count})
            seconds += settings.steps / count * _timed(partial(trial.attack, victim, name, few, labels)) + scoring
    finally:
        torch.set_num_threads(threads)
    # Images of other sizes take time by their size; no worker helps another with its shard.
    batches_worth = sum(len(shard.samples) * math.prod(shard.shape) for shard in shards) / (len(loaded) * math.prod(first.shape))
    return seconds * batches_worth / min(workers, len(shards))


def _timed(action: Callable[[], Any]) -> float:
    began = time.perf_counter()
    action()
    if torch.cuda.is_initialized():
        torch.cuda.synchronize()
    return time.perf_counter() - began
