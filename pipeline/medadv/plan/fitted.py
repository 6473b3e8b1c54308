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


def fits_of(plans: Sequence[FrozenPlan]) -> dict[str, Fitted]:
    """By attack, what the latest plan that fitted it was fitted to. IntegrityError where that cannot be read."""
    found: dict[str, Fitted] = {}
    for name in plans[-1].settings.universal if plans else ():
        home = next((plan.folder for plan in reversed(plans) if fit_file(plan.folder, name).exists()), None)
        if home is None:
            raise IntegrityError(f"{fit_file(plans[0].folder, name)} is missing; put it back from a copy")
        path = fit_file(home, name)
        try:
            found[name] = Fitted(home, PlannedShard.of_line(path.read_bytes()))
        except (OSError, ValueError, KeyError, TypeError, IndexError, RecursionError):
            raise IntegrityError(f"{path} is damaged; put it back from a copy") from None
    return found


def drop_earlier(plans: Sequence[FrozenPlan]) -> None:
    """Remove what an earlier generation fitted where a later one stands for it."""
    for name, kept in fits_of(plans).items():
        for plan in plans:
            if plan.folder != kept.folder:
                remove(fit_file(plan.folder, name))
                remove(perturbation_file(plan.folder, name))
