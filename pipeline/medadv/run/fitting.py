"""Who makes the perturbations that all samples share? The one who plans, before the plan is frozen that names their hashes."""

from collections.abc import Callable, Mapping
from pathlib import Path

import torch

from medadv.attacks.cost import fitting_passes
from medadv.attacks.feasible import start_seed
from medadv.batches.fitting import Fit, fit
from medadv.common.errors import IntegrityError
from medadv.common.files import publish, temporary
from medadv.common.hashing import canonical_json, hash_array, hash_value
from medadv.common.machine import set_threads
from medadv.common.progress import Progress
from medadv.common.record import plain
from medadv.common.stop import Stop
from medadv.corpus.folder import Workspace
from medadv.datasets.reader import Reader
from medadv.plan.cut import sizes
from medadv.plan.fitted import clear, perturbation_file, write_fitted
from medadv.plan.model import PlannedSample, PlannedShard
from medadv.plan.plan_settings import PlanSettings, UniversalFacts, facts_of
from medadv.prepare.fitting import EVERYBODY
from medadv.spec.execution import ExecutionSettings
from medadv.store.universal import write_universal
from medadv.victims.loading import VictimRequest
from medadv.victims.several import against
from medadv.victims.speed import Profile

KEPT = "what was fitted so far is kept; run again to go on"


def fitted_settings(
    workspace: Workspace,
    folder: Path,
    settings: PlanSettings,
    fits: Mapping[str, PlannedShard],
    request: VictimRequest,
    reader: Reader,
    progress: Progress,
    stop: Stop,
    tell: Callable[[str], None],
) -> PlanSettings:
    """The settings of a plan with its universal perturbations, which are left in the plan's folder.

    Args:
        workspace: the corpus, in whose private corner a fit is kept that is not done.
        folder: of the plan that is about to be frozen.
        settings: with what other universal perturbations the corpus has already.
        fits: by attack, the samples to fit to, with the size of the batches.
        request: for the victim.
        reader: of the samples.
        progress: told of batches done and in all.
        stop: looked at between batches.
        tell: of what a reader should know.

    Raises:
        StoppedError: a signal came; what was fitted is kept.  RunError: nothing can be read, or the machine failed.
        IntegrityError: the victim's weights changed meanwhile.
    """
    clear(folder)
    if not fits:
        return settings
    execution = settings.execution
    device, threads = torch.device(execution.device), torch.get_num_threads()
    set_threads(execution.threads)
    try:
        shape = next(iter(fits.values())).shape
        victim = request.load(device, shape, Profile.of(execution.profile))
        fitted = [settings.attacks[name] for name in fits]
        if any(against(victim, attack).identity.hashes != facts_of(settings, attack).hashes for attack in fitted):
            raise IntegrityError("the victim's weights changed while the run was planned; run again")
        folder.mkdir(parents=True, exist_ok=True)
        found: dict[str, UniversalFacts] = dict(settings.universal)
        for name, samples in fits.items():

            def proceed(done: int, total: int, name: str = name) -> None:
                stop.check(KEPT)
                progress("fitting", done, total, name)

            attack = settings.attacks[name]
            # What other attacks the corpus has decides nothing here.
            own = settings.model_copy(update={"attacks": {name: attack}, "universal": {}})
            identity = hash_value({"settings": plain(own), "samples": samples.digest})
            asked = Fit(attack, samples, start_seed(execution.seed, EVERYBODY, name), identity)
            perturbation, count = fit(asked, against(victim, attack), reader, device, workspace.fits / name, proceed)
            progress("fitting", len(samples.batches), len(samples.batches), name)
            if count < len(samples.samples):
                tell(f"{name} was fitted to {count} samples; {len(samples.samples) - count} could not be read")
            if attack.epsilon and not perturbation.any():
                tell(f"{name} moves nothing: no sample that it was fitted to has a loss below loss_bound={attack.loss_bound:g}")
            made = temporary(perturbation_file(folder, name))
            try:
                parameters = canonical_json(attack.model_dump(mode="json")).decode()
                write_universal(made, perturbation, settings.data.unit, attack.epsilon, parameters, count)
                publish(made, perturbation_file(folder, name))
            finally:
                made.unlink(missing_ok=True)
            write_fitted(folder, name, samples)
            forward, backward = fitting_passes(attack)
            found[name] = UniversalFacts(
                perturbation_sha256=hash_array(perturbation), samples=count, forward_passes=forward, backward_passes=backward
            )
    finally:
        torch.set_num_threads(threads)
    return settings.model_copy(update={"universal": found})


def as_planned(samples: list[PlannedSample], shape: tuple[int, ...], execution: ExecutionSettings) -> PlannedShard:
    """Samples as they are fitted: in batches of the size that such images are attacked in, in the order of their ids.

    execution: with the size that was found for `auto`.
    """
    return PlannedShard(0, shape, tuple(sorted(samples, key=lambda sample: sample.id)), sizes(shape, execution)[0])


def drop_states(workspace: Workspace) -> None:
    """Nothing is kept of fits that a frozen plan holds."""
    if workspace.fits.is_dir():
        for path in workspace.fits.iterdir():
            path.unlink()
        workspace.fits.rmdir()
