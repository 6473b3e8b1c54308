"""Which samples was a universal perturbation fitted to? Private, as the lines of a plan are, and beside them.

The generation that fitted keeps the perturbation too: what is published is a copy of it, made once the plan that names its hash is frozen.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from medadv.common.errors import IntegrityError
from medadv.common.files import remove, write_file
from medadv.plan.frozen import FrozenPlan
from medadv.plan.model import PlannedShard


def fit_file(folder: Path, attack: str) -> Path:
    """One line, as of a shard: every sample that is fitted, and the size of the batches. folder: of the plan."""
    return folder / f"fitted-{attack}.jsonl"


def perturbation_file(folder: Path, attack: str) -> Path:
    """What came of it. folder: of the plan."""
    return folder / f"fitted-{attack}.h5"


@dataclass(frozen=True)
class Fitted:
    """What was fitted for an attack, and the folder of the plan that did."""

    folder: Path
    samples: PlannedShard

    @property
    def groups(self) -> set[str]:
        """Keyed hashes of the groups, as shards have them."""
        return {sample.group for sample in self.samples.samples}


def write_fitted(folder: Path, attack: str, samples: PlannedShard) -> None:
    """Keep what was fitted, before the head of the plan says that it is whole."""
    write_file(fit_file(folder, attack), samples.line() + b"\n")


def clear(folder: Path) -> None:
    """Nothing is fitted in the folder of a plan that is not frozen yet: who was killed there may have left something."""
    for path in folder.glob("fitted-*"):
        remove(path)


def fits_of(plans: Sequence[FrozenPlan]) -> dict[str, Fitted]:
    """By attack, what the latest plan that fitted it was fitted to. IntegrityError where that cannot be read."""
    found: dict[str, Fitted] = {}
    for name in plans[-1].settings.universal if plans else ():
        home = next((plan.folder for plan in reversed(plans) if fit_file(plan.folder, name).exists()), None)
        if home is None:
            raise IntegrityError(f"{fit_file(plans[0].folder, name)} is missing; put it back from a copy")
        found[name] = _read(home, name)
    return found


def outlived(plans: Sequence[FrozenPlan]) -> dict[str, list[Fitted]]:
    """By attack, what earlier generations fitted that a later one stands for."""
    kept = fits_of(plans)
    return {
        name: [_read(plan.folder, name) for plan in plans if plan.folder != home.folder and fit_file(plan.folder, name).exists()]
        for name, home in kept.items()
    }


def drop(folder: Path, attack: str) -> None:
    """Remove what a plan fitted; the samples last, so that a killed removal is done again."""
    remove(perturbation_file(folder, attack))
    remove(fit_file(folder, attack))


def _read(folder: Path, attack: str) -> Fitted:
    path = fit_file(folder, attack)
    try:
        return Fitted(folder, PlannedShard.of_line(path.read_bytes()))
    except (OSError, ValueError, KeyError, TypeError, IndexError, RecursionError):
        raise IntegrityError(f"{path} is damaged; put it back from a copy") from None
