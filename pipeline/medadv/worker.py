"""What a worker process does with a shard of a frozen plan. Everything it needs lies in the corpus folder; no pixels travel."""

import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

import torch

from medadv import journal
from medadv.commit import committed
from medadv.datasets.read import Reader
from medadv.errors import IntegrityError, RunError
from medadv.failures import explain, passing
from medadv.hashing import FileIdentity, file_identity
from medadv.lock import state_of
from medadv.plan.frozen import FrozenPlan, thaw
from medadv.plan.model import PlannedShard
from medadv.recipe import Recipe
from medadv.shard import make_shard
from medadv.spec.run import ExecutionSettings, RunSpec, parse_spec
from medadv.spec.victim import VictimSettings
from medadv.victims.base import Victim
from medadv.victims.loading import classes_for, load_victim
from medadv.victims.profiles import Profile, with_profile
from medadv.workspace import Workspace, shard_name

TRIES = 3
"""How often a shard is begun when disks or networks fail for a moment; the waits double from one second."""

# A worker may have several threads, but a victim serves one batch at a time and the thread count is the process's.
_one_at_a_time = threading.Lock()


class NotWantedError(Exception):
    """The run that asked for this shard stops, or lost the corpus to another run."""


class SuspectedError(Exception):
    """Workers died on this shard: its samples are to be looked at one by one."""


@dataclass(frozen=True)
class Job:
    """One shard to make. `lock` and `token` tell whether the run that asks still holds the corpus."""

    corpus: str
    generation: int
    shard: dict[str, Any]
    trust_code: bool
    lock: str
    token: str
    excluded: tuple[str, ...] = ()
    deaths: int = journal.DEATHS
    """How many workers may die on the shard before it is suspected."""
    diary: str = ""
    """Under what the deaths are counted: the run's token unless set."""

    @property
    def name(self) -> str:
        """Name of the shard."""
        return shard_name(self.shard["index"])


@dataclass(frozen=True)
class Equipment:
    """Loaded once per worker and plan."""

    recipe: Recipe
    reader: Reader
    victim: Victim
    settings: VictimSettings
    shapes: set[tuple[int, ...]]
    """Shapes of images that the victim was seen to take."""


def make(job: Job) -> dict[str, Any]:
    """Make one shard; returns the parts of its receipt that the run shows: name, samples, quarantined, successes per attack, seconds.

    Raises:
        NotWantedError: the run stops.
        SuspectedError: too many workers died on this shard before.
        MedadvError: what cannot be helped by trying again, as one line.
    """
    with _one_at_a_time:
        began = time.monotonic()
        workspace = Workspace(Path(job.corpus))
        _proceed(job, begin=True)
        if journal.begin(workspace, job.name, job.diary or job.token) >= job.deaths:
            journal.end(workspace, job.name)
            raise SuspectedError(job.name)
        try:
            receipt = _patiently(lambda: _make(workspace, job))
        except (OSError, MemoryError, RuntimeError) as error:
            raise explain(error, workspace.root) or error from None
        finally:
            journal.end(workspace, job.name)
        successes = {
            name: sum(record["attacks"][name]["success"] for record in receipt["records"])
            for name in (receipt["records"][0]["attacks"] if receipt["records"] else ())
        }
        return {
            "shard": receipt["shard"],
            "samples": receipt["samples"],
            "quarantined": len(receipt["quarantined"]),
            "success": successes,
            "seconds": round(time.monotonic() - began, 3),
        }


def _make(workspace: Workspace, job: Job) -> dict[str, Any]:
    planned = PlannedShard.from_dict(job.shard)
    equipment = equip(workspace.root, job.generation, planned.shape, job.trust_code)
    earlier = committed(workspace, job.name, equipment.recipe.plan)
    if earlier is not None:
        return earlier
    return make_shard(
        workspace,
        planned,
        equipment.recipe,
        equipment.reader,
        equipment.victim,
        excluded=job.excluded,
        proceed=lambda: _proceed(job),
    )


def _proceed(job: Job, *, begin: bool = False) -> None:
    state = state_of(Path(job.lock), job.token)
    if state is None or state == "halting" or (begin and state == "draining"):
        raise NotWantedError(job.name)


def _patiently(make_it: Callable[[], dict[str, Any]]) -> dict[str, Any]:
    for attempt in range(TRIES - 1):
        try:
            return make_it()
        except OSError as error:
            if not passing(error):
                raise
            time.sleep(2.0**attempt)
    return make_it()


def equip(root: Path, generation: int, shape: tuple[int, ...], trust_code: bool) -> Equipment:
    """Victim, reader and recipe of a plan. Volumes have shapes of their own: the victim stays, and is only tried on each."""
    plan = Workspace(root).plan(generation)
    equipment = _loaded(plan, file_identity(plan / "plan.json"), trust_code)
    if shape not in equipment.shapes:
        victim, device = equipment.victim, torch.device(equipment.recipe.device)
        if victim.task != "detection":  # detectors scale images of every shape
            classes_for(victim.module, equipment.settings, victim.task, shape, device)
        equipment.shapes.add(shape)
    return equipment


@lru_cache(maxsize=1)
def _loaded(folder: Path, head: FileIdentity, trust_code: bool) -> Equipment:
    """head: which file the plan's head is, since workers outlive a corpus that is deleted and made anew with other settings."""
    plan = thaw(folder)
    spec = plan_spec(plan)
    # Thread counts change bits, so the plan sets them, whatever the environment says.
    torch.set_num_threads(plan.settings["execution"]["threads"])
    device = plan.settings["execution"]["device"]
    if device == "cuda" and not torch.cuda.is_available():
        raise RunError("the plan was made for a GPU, and this worker sees none")
    shape = next(plan.lines()).shape
    victim, identity = load_victim(
        spec.victim, spec.data.task, Path(plan.base), device=torch.device(device), sample_shape=shape, trust_code=trust_code
    )
    if identity.weights_sha256 != plan.settings["victim"]["weights_sha256"]:
        raise IntegrityError("the victim's weights changed after the plan was made; put them back, or make another corpus")
    victim = with_profile(victim, Profile.of(plan.settings["execution"].get("profile")), shape)
    return Equipment(recipe_of(plan, spec), reader_of(plan, spec), victim, spec.victim, {shape})


def plan_spec(plan: FrozenPlan) -> RunSpec:
    """The run spec that a plan was made from."""
    return parse_spec(plan.spec, "frozen plan")


def planned_execution(plan: FrozenPlan) -> ExecutionSettings:
    """Execution settings of a plan, with the batch size that was found for `auto`."""
    return plan_spec(plan).execution.model_copy(update={"batch_size": plan.settings["execution"]["batch_size"]})


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
        codec=spec.execution.codec,
    )


def reader_of(plan: FrozenPlan, spec: RunSpec) -> Reader:
    """The reader of the plan's sources."""
    return Reader(Path(plan.root), spec.data, spec.preprocess, spec.victim.head == "sigmoid")
