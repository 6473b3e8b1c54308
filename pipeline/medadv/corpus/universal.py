"""Which perturbation do the samples of a universal attack share? The published one, held against the hash that the plan froze."""

import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path

from medadv.common.errors import IntegrityError
from medadv.common.files import publish, sync, temporary
from medadv.common.hashing import hash_array
from medadv.corpus.folder import Workspace
from medadv.datasets.labels import Array
from medadv.plan.fitted import fits_of, perturbation_file
from medadv.plan.frozen import FrozenPlan
from medadv.plan.plan_settings import UniversalFacts
from medadv.store.universal import read_universal


def shared(workspace: Workspace, facts: Mapping[str, UniversalFacts]) -> dict[str, Array]:
    """The perturbations (C, *spatial) of a corpus by attack. IntegrityError where one is not what the plan or manifest says."""
    return {name: _held(workspace.universal(name), said) for name, said in facts.items()}


def publish_shared(workspace: Workspace, plans: Sequence[FrozenPlan]) -> None:
    """Publish what the latest plan names, where that is not there yet: a run may have died before it did."""
    for name, home in fits_of(plans).items():
        said, path = plans[-1].settings.universal[name], workspace.universal(name)
        try:
            _held(path, said)
        except IntegrityError:
            master = perturbation_file(home.folder, name)
            _held(master, said)
            path.parent.mkdir(exist_ok=True)
            copy = temporary(path)
            try:
                shutil.copyfile(master, copy)
                sync(copy)
                publish(copy, path)
            finally:
                copy.unlink(missing_ok=True)


def _held(path: Path, said: UniversalFacts) -> Array:
    try:
        found = read_universal(path).perturbation
    except FileNotFoundError:
        raise IntegrityError(f"{path} is missing") from None
    if hash_array(found) != said.perturbation_sha256:
        raise IntegrityError(f"{path} holds another perturbation than was planned with; run `medadv verify`")
    return found
