"""What does a worker hold for a plan? Victim, reader and recipe, loaded once."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import lru_cache
from pathlib import Path

import torch

from medadv.common.errors import IntegrityError, RunError
from medadv.common.hashing import FileIdentity, file_identity
from medadv.common.machine import set_threads
from medadv.corpus.folder import Workspace
from medadv.corpus.starts import starts_of
from medadv.corpus.universal import shared
from medadv.datasets.file_hashes import FileHashes
from medadv.datasets.reader import Reader
from medadv.plan.frozen import thaw
from medadv.plan.recipe import Recipe, reader_of, recipe_of
from medadv.spec.victim import VictimSettings
from medadv.victims.loading import VictimRequest, try_shape
from medadv.victims.speed import Profile
from medadv.victims.victim import Victim


@dataclass(frozen=True)
class Equipment:
    """Loaded once per worker and plan."""

    recipe: Recipe
    reader: Reader
    victim: Victim
    settings: VictimSettings
    victims: Mapping[str, VictimSettings]
    """By name, where there are several."""
    shapes: set[tuple[int, ...]]
    """Shapes of images that the victim was seen to take."""
    hashes: FileHashes
    """Of the input files read so far."""


def equip(root: Path, generation: int, shape: tuple[int, ...], trust_code: bool) -> Equipment:
    """Victim, reader and recipe of a plan. Volumes have shapes of their own: the victim stays, and is only tried on each."""
    plan = Workspace(root).plan(generation)
    equipment = _loaded(root, plan, file_identity(plan / "plan.json"), trust_code)
    if shape not in equipment.shapes:
        victim, device = equipment.victim, torch.device(equipment.recipe.device)
        if victim.task != "detection":  # detectors scale images of every shape
            for name, each in (victim.named or {"": victim}).items():
                try_shape(each, equipment.victims.get(name, equipment.settings), shape, device)
        equipment.shapes.add(shape)
    return equipment


@lru_cache(maxsize=1)
def _loaded(root: Path, folder: Path, head: FileIdentity, trust_code: bool) -> Equipment:
    """head: which file the plan's head is, since workers outlive a corpus that is deleted and made anew with other settings."""
    plan = thaw(folder)
    spec = plan.spec
    # Thread counts change bits, so the plan sets them, whatever the environment says.
    set_threads(plan.settings.execution.threads)
    device = plan.settings.execution.device
    if device == "cuda" and not torch.cuda.is_available():
        raise RunError("the plan was made for a GPU, and this worker sees none")
    shape = next(plan.lines()).shape
    request = VictimRequest.of(spec, Path(plan.base), trust_code, plan.settings.data.x_first)
    victim = request.load(torch.device(device), shape, Profile.of(plan.settings.execution.profile))
    planned = plan.settings
    pairs = [(each.identity, planned.victims[name]) for name, each in victim.named.items()] or [(victim.identity, planned.victim)]
    if any(identity.hashes != facts.hashes for identity, facts in pairs):
        raise IntegrityError("the victim's weights changed after the plan was made; put them back, or make another corpus")
    workspace = Workspace(root)
    recipe = replace(recipe_of(plan, spec), shared=shared(workspace, plan.settings.universal), starts=starts_of(workspace, plan))
    return Equipment(recipe, reader_of(plan, spec), victim, spec.victim, spec.victims, {shape}, FileHashes(None))
