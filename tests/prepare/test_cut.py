"""How are samples cut into shards and batches? By their settings, and never into nothing."""

import pytest

from medadv.datasets.source import Source
from medadv.plan.cut import cut, sizes
from medadv.plan.model import MAX_SHARD_VALUES, PlannedSample
from medadv.spec.execution import ExecutionSettings


@pytest.mark.parametrize(
    ("settings", "shape", "expected"),
    [
        ({"batch_size": 2, "shard_size": 4}, (3, 32, 32), (2, 4)),
        ({"batch_size": "auto", "shard_size": 4}, (3, 32, 32), (4, 4)),  # the default batch is more than the shard holds
        ({"batch_size": "auto", "shard_size": 20}, (3, 32, 32), (8, 16)),
        ({"batch_size": 4, "shard_size": 8}, (1, MAX_SHARD_VALUES // 3), (3, 3)),
        ({"batch_size": 4, "shard_size": 8}, (1, 2 * MAX_SHARD_VALUES), (1, 1)),
    ],
)
def test_a_shard_holds_whole_batches(settings: dict[str, object], shape: tuple[int, ...], expected: tuple[int, int]) -> None:
    execution = ExecutionSettings.model_validate(settings)
    assert sizes(shape, execution) == expected
    samples = [(shape, PlannedSample(f"{index:02d}", "", "", Source((f"{index}.png",), None))) for index in range(9)]
    shards = cut(samples, execution)
    assert [sample.id for shard in shards for sample in shard.samples] == [f"{index:02d}" for index in range(9)]
    assert {len(shard.samples) for shard in shards[:-1]} <= {expected[1]}
