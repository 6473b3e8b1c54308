"""Cut samples into shards and batches. The result depends on the samples alone, not on the order in which they were listed."""

import math
from collections import defaultdict
from collections.abc import Iterable, Iterator

from medadv.plan.model import MAX_SHARD_VALUES, PlannedSample, PlannedShard
from medadv.spec.execution import ExecutionSettings


def cut(samples: Iterable[tuple[tuple[int, ...], PlannedSample]], execution: ExecutionSettings, first_index: int = 0) -> list[PlannedShard]:
    """Shards of equal-shaped samples, sorted by shape and id.

    samples: (shape (C, *spatial), sample).  first_index: number of the first shard, for generations after the first.
    """
    by_shape: dict[tuple[int, ...], list[PlannedSample]] = defaultdict(list)
    for shape, sample in samples:
        by_shape[shape].append(sample)
    shards: list[PlannedShard] = []
    for shape in sorted(by_shape):
        batch, size = sizes(shape, execution)
        for part in _parts(sorted(by_shape[shape], key=lambda s: s.id), size):
            shards.append(PlannedShard(first_index + len(shards), shape, tuple(part), batch))
    return shards


def sizes(shape: tuple[int, ...], execution: ExecutionSettings) -> tuple[int, int]:
    """Batch and shard size for samples of a shape: as set, or fewer where samples are so large that a shard would outgrow memory."""
    fitting = max(1, MAX_SHARD_VALUES // math.prod(shape))
    # What is found for `auto` may be more than a shard is to hold.
    batch = min(execution.batch, execution.shard_size, fitting)
    return batch, min(execution.shard_size, fitting) // batch * batch


def _parts(samples: list[PlannedSample], size: int) -> Iterator[list[PlannedSample]]:
    for start in range(0, len(samples), size):
        yield samples[start : start + size]
