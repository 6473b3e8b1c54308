"""What a worker process does with a shard of a frozen plan. Everything it needs lies in the corpus folder; no pixels travel."""

from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

import torch

from medadv.datasets.read import Reader
from medadv.errors import IntegrityError
from medadv.plan.frozen import FrozenPlan, thaw
from medadv.plan.model import PlannedShard
from medadv.shard import Recipe, make_shard
from medadv.spec.run import RunSpec, parse_spec
from medadv.victims.base import Victim
from medadv.victims.loading import load_victim
from medadv.workspace import Workspace


@dataclass(frozen=True)
class Equipment:
    """Loaded once per worker and plan."""

    recipe: Recipe
    reader: Reader
    victim: Victim


def make(corpus: str, generation: int, shard: dict[str, Any], trust_code: bool) -> dict[str, Any]:
    """Make one shard; returns the parts of its receipt that the run shows: name, samples, quarantined, successes per attack."""
    workspace = Workspace(Path(corpus))
    planned = PlannedShard.from_dict(shard)
    equipment = equip(workspace.root, generation, planned.shape, trust_code)
    receipt = make_shard(workspace, planned, equipment.recipe, equipment.reader, equipment.victim)
    return {
        "shard": receipt["shard"],
        "samples": receipt["samples"],
        "quarantined": len(receipt["quarantined"]),
        "success": {
            name: sum(record["attacks"][name]["success"] for record in receipt["records"]) for name in equipment.recipe.attacks
        },
    }


@lru_cache(maxsize=1)
def equip(root: Path, generation: int, shape: tuple[int, ...], trust_code: bool) -> Equipment:
    """Victim, reader and recipe of a plan, for images of one shape."""
    plan = thaw(Workspace(root).plan(generation))
    spec = plan_spec(plan)
    # Thread counts change bits, so the plan sets them, whatever the environment says.
    torch.set_num_threads(plan.settings["execution"]["threads"])
    device = plan.settings["execution"]["device"]
    victim, identity = load_victim(
        spec.victim, spec.data.task, Path(plan.base), device=torch.device(device), sample_shape=shape, trust_code=trust_code
    )
    if identity.weights_sha256 != plan.settings["victim"]["weights_sha256"]:
        raise IntegrityError("the victim's weights changed after the plan was made; put them back, or make another corpus")
    return Equipment(recipe_of(plan, spec), reader_of(plan, spec), victim)


def plan_spec(plan: FrozenPlan) -> RunSpec:
    """The run spec that a plan was made from."""
    return parse_spec(plan.spec, "frozen plan")


def recipe_of(plan: FrozenPlan, spec: RunSpec) -> Recipe:
    """What the plan's shards are made by."""
    return Recipe(
        plan=plan.hash,
        generation=plan.generation,
        modality=spec.data.modality,
        attacks=dict(spec.attacks),
        seed=spec.execution.seed,
        device=plan.settings["execution"]["device"],
        first_shard=plan.first_shard,
    )


def reader_of(plan: FrozenPlan, spec: RunSpec) -> Reader:
    """The reader of the plan's sources."""
    return Reader(Path(plan.root), spec.data, spec.preprocess, spec.victim.head == "sigmoid")
