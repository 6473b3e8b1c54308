"""What are a plan's shards made by? Attacks, seed, device and reader, as it froze them."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from medadv.datasets.labels import Array
from medadv.datasets.reader import Reader
from medadv.plan.frozen import FrozenPlan
from medadv.spec.attack import AttackSettings
from medadv.spec.execution import ExecutionSettings
from medadv.spec.run_spec import RunSpec

Starts = Callable[[Sequence[str], Array], tuple[Array, Array]]
"""Where samples begin that go on from another corpus: from their ids and clean images (n, C, *spatial) to perturbations of that shape,
int16 and of any size, and (n,) uint8, 1 where there is one and 0 where the attack begins as it would without."""


@dataclass(frozen=True)
class Recipe:
    """What a shard is made by, the same for all shards of a plan."""

    plan: str
    generation: int
    modality: str
    attacks: dict[str, AttackSettings]
    seed: int
    device: str
    first_shard: int
    """Index of the plan's first shard, one batch of which is run twice."""
    codec: str = "gzip"
    shared: Mapping[str, Array] = field(default_factory=dict)
    """By attack, the perturbation (C, *spatial) that all samples share: read from the corpus by who makes shards."""
    starts: Mapping[str, Starts] = field(default_factory=dict)
    """By attack that starts from another corpus, where its samples do."""


def planned_execution(plan: FrozenPlan) -> ExecutionSettings:
    """Execution settings of a plan, with the batch size that was found for `auto`."""
    return plan.spec.execution.model_copy(update={"batch_size": plan.settings.execution.batch_size})


def recipe_of(plan: FrozenPlan, spec: RunSpec) -> Recipe:
    """What the plan's shards are made by."""
    return Recipe(
        plan=plan.hash,
        generation=plan.generation,
        modality=spec.data.modality,
        attacks=dict(plan.settings.attacks),
        seed=spec.execution.seed,
        device=plan.settings.execution.device,
        first_shard=plan.first_shard,
        codec=spec.execution.codec,
    )


def reader_of(plan: FrozenPlan, spec: RunSpec) -> Reader:
    """The reader of the plan's sources."""
    return Reader(Path(plan.root), spec.data, spec.preprocess, spec.victim.head == "sigmoid")
