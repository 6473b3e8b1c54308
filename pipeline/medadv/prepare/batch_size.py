"""How many samples fit through the victim together?"""

from dataclasses import replace

import torch
from torch import Tensor

from medadv.batches.trial import Trial
from medadv.victims.victim import Victim

BASE_BYTES = 1 << 30
"""What a worker process holds before it attacks: torch, MONAI, decoded samples."""
SHARE = 0.6
"""Part of the rest that a batch may take: a shard's arrays and its HDF5 file need theirs."""
TRANSIENT = 1.5
"""Peak memory of a step over what it keeps for the way back: gradients and each layer's workspace."""


def largest_batch(victim: Victim, trial: Trial, shard_size: int, memory: int) -> int:
    """The largest divisor of the shard size whose attack step fits.

    On a CPU the bytes that one sample and two samples keep for the way back are counted, which gives the same answer on any machine, and
    held against `memory` (bytes per worker). On a GPU peak memory of both is measured, and held against what is free there.
    """
    one, two = (_step_bytes(victim, trial, count) for count in (1, 2))
    each, fixed = max(1, two - one), max(0, 2 * one - two)
    if trial.batch.images.device.type == "cuda":
        free, _ = torch.cuda.mem_get_info()
        fits = int((free * SHARE - fixed) / each)
    else:
        fits = int(((memory - BASE_BYTES) * SHARE / TRANSIENT - fixed) / each)
    return max(size for size in range(1, shard_size + 1) if shard_size % size == 0 and size <= max(1, fits))


def _step_bytes(victim: Victim, trial: Trial, count: int) -> int:
    several = replace(trial, batch=trial.batch.repeated(count))
    name, settings = max(trial.attacks.items(), key=lambda item: item[1].weight > 0)
    few = settings.model_copy(update={"steps": 1})
    if trial.batch.images.device.type == "cuda":
        torch.cuda.reset_peak_memory_stats()
        several.attack(victim, name, few)
        return int(torch.cuda.max_memory_allocated())
    kept: dict[int, int] = {}

    def pack(tensor: Tensor) -> Tensor:
        storage = tensor.untyped_storage()
        kept[storage.data_ptr()] = storage.nbytes()
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
        several.attack(victim, name, few)
    return sum(kept.values())
