"""Which corpora do attacks start from? Found by their folders, and planned by their content roots."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from medadv.common.errors import SpecError
from medadv.corpus import private
from medadv.corpus.folder import Workspace
from medadv.corpus.predecessor import open_predecessor
from medadv.plan.frozen import FrozenPlan
from medadv.plan.model import PlannedShard
from medadv.plan.plan_settings import PlanSettings
from medadv.spec.attack import AttackSettings
from medadv.spec.run_spec import RunSpec
from medadv.spec.start import CorpusStart, PlannedStart


@dataclass(frozen=True)
class WarmStarts:
    """attacks: of a spec, with content roots in place of folders.  folders: of the corpora, by content root."""

    attacks: dict[str, AttackSettings]
    folders: dict[str, str]


def warm_starts(spec: RunSpec, base: Path, workspace: Workspace, plans: Sequence[FrozenPlan], unit: str) -> WarmStarts:
    """What a spec's attacks start from.

    A corpus that was planned is not opened again where it was: only what is still to be made needs it.  unit: stored unit of the samples.
    Raises SpecError or IntegrityError, as `open_predecessor`.
    """
    planned = plans[0].settings.attacks if plans else {}
    known = private.predecessors(workspace)
    attacks, folders = dict(spec.attacks), dict[str, str]()
    for name, settings in spec.attacks.items():
        if isinstance(settings.start, CorpusStart):
            folder, attack = (base / settings.start.corpus).resolve(), settings.start.attack or name
            where = f"attacks.{name}.start.corpus={settings.start.corpus}"
            if folder == workspace.root:
                raise SpecError(f"{where}: the corpus that is made would start from itself; name an earlier one")
            start = planned[name].start if name in planned else None
            if not isinstance(start, PlannedStart) or start.attack != attack or known.get(start.content_root) != str(folder):
                start = open_predecessor(where, folder, attack, spec.data.modality, unit).start
            attacks[name] = settings.model_copy(update={"start": start})
            folders[start.content_root] = str(folder)
    return WarmStarts(attacks, folders)


def tell_starts(
    settings: PlanSettings, folders: Mapping[str, str], new: Sequence[PlannedShard], first: bool, note: Callable[[str], None]
) -> None:
    """Say how many new samples each corpus gives a start.

    first: whether this is for a first plan, which no corpus of other images is the start of.
    Raises SpecError or IntegrityError where a corpus that new samples start from is not what was planned with.
    """
    samples = [sample.id for shard in new for sample in shard.samples]
    for name, attack in settings.attacks.items() if samples else ():
        if isinstance(start := attack.start, PlannedStart):
            where, folder = f"attacks.{name}.start", Path(folders[start.content_root])
            found = open_predecessor(where, folder, start.attack, settings.data.modality, settings.data.unit, start)
            count = sum(sample in found.places for sample in samples)
            if first and not count:
                raise SpecError(f"{where}: {folder} holds none of these {len(samples)} samples; name a corpus of the same images")
            note(f"{name} starts from {start.attack} of the corpus {start.content_root}, which holds {count} of {len(samples)} samples")
