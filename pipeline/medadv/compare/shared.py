"""What do all samples of a comparison share? Universal perturbations, fitted to as many samples of their split as are compared."""

from collections.abc import Mapping
from pathlib import Path

import torch
from torch import Tensor

from medadv.attacks.feasible import start_seed
from medadv.batches.fitting import Fit, fit
from medadv.common.progress import Progress
from medadv.datasets.file_hashes import FileHashes
from medadv.datasets.reader import Reader
from medadv.plan.cut import sizes
from medadv.plan.model import PlannedShard
from medadv.prepare.fit import highest_class
from medadv.prepare.fitting import EVERYBODY, fit_samples
from medadv.prepare.survey import settle_masks, survey
from medadv.spec.attack import AttackSettings
from medadv.spec.run_spec import RunSpec
from medadv.victims.victim import Victim


def shared_of(
    spec: RunSpec, attacks: Mapping[str, AttackSettings], base: Path, limit: int, victim: Victim, device: torch.device, progress: Progress
) -> dict[str, tuple[Tensor, int]]:
    """By attack, the perturbation (C, *spatial) int16 on the device, and how many samples it was fitted to: `limit` at most.

    attacks: of the spec, resolved.  victim: on the device.  Raises SpecError as a plan does.
    """
    if all(settings.fit is None for settings in attacks.values()):
        return {}
    hashes, key = FileHashes(None), b"compare"
    seen, mask_255 = survey(spec, base, hashes, key), None
    if spec.data.task == "segmentation":
        seen, mask_255 = settle_masks(seen, spec, highest_class(victim))
    resolved = spec.model_copy(update={"attacks": dict(attacks)})
    chosen = fit_samples(resolved, base, hashes, key, progress, (), seen, victim, mask_255, progress.message)
    reader = Reader(seen.root, spec.data, spec.preprocess, spec.victim.head == "sigmoid")
    found: dict[str, tuple[Tensor, int]] = {}
    for name, samples in chosen.items():
        shape = seen.found[0].shape.shape
        planned = PlannedShard(0, shape, tuple(samples[:limit]), sizes(shape, spec.execution)[0])
        asked = Fit(attacks[name], planned, start_seed(spec.execution.seed, EVERYBODY, name), "")
        made, count = fit(asked, victim, reader, device, None, lambda done, total: None)
        found[name] = torch.from_numpy(made).to(device, torch.int16), count
    return found
