"""What a run would do: look at the inputs and at what the corpus holds already. Writes nothing."""

import os
import secrets
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

from medadv.common.errors import NothingFoundError, RunError
from medadv.common.hashing import hash_file, keyed_hash
from medadv.common.machine import check_threads
from medadv.common.progress import Passing, Progress
from medadv.common.record import plain
from medadv.common.stop import Stop
from medadv.corpus.folder import Workspace
from medadv.corpus.private import KEY_BYTES, forgotten_groups, known_sources
from medadv.corpus.quarantine import QuarantineRecord
from medadv.datasets.file_hashes import FileHashes
from medadv.datasets.layouts import list_samples
from medadv.datasets.reader import Reader
from medadv.plan.cut import cut
from medadv.plan.fitted import fits_of
from medadv.plan.frozen import FrozenPlan, differences, generations, next_shard, refuse_change, refuse_other_meaning, retired, whole
from medadv.plan.model import PlannedSample, PlannedShard, image_lists
from medadv.plan.plan_settings import ExecutionFacts, PlanSettings, TuningRecord
from medadv.prepare import auto as resolve
from medadv.prepare.fit import check_kernels, check_victim, highest_class, refuse_paths
from medadv.prepare.fitting import check_shapes, fit_samples, without_fitted
from medadv.prepare.goal_classes import with_indices
from medadv.prepare.losses import fitted
from medadv.prepare.plausible import check_outputs
from medadv.prepare.request import Options
from medadv.prepare.settings import frozen_settings
from medadv.prepare.survey import Survey, settle_masks, survey
from medadv.prepare.warm import tell_starts, warm_starts
from medadv.spec.attack import AttackSettings
from medadv.spec.base import refuse_reserved
from medadv.spec.data import class_names
from medadv.spec.run_spec import RunSpec
from medadv.store.codecs import require_codec
from medadv.victims.loading import VictimRequest
from medadv.victims.several import each_of, facing
from medadv.victims.speed import exact_profile
from medadv_transforms import InputError


@dataclass(frozen=True)
class Prepared:
    """Everything known before work begins. `new` are the shards that no plan holds yet."""

    spec: RunSpec
    base: Path
    workspace: Workspace
    survey: Survey
    settings: PlanSettings
    plans: list[FrozenPlan]
    new: list[PlannedShard]
    gone: dict[str, str]
    """Ids of planned samples that the inputs no longer hold as planned: `removed`, `changed` or `given another label`."""
    hashes: FileHashes
    tuning: list[TuningRecord]
    """The execution profiles that were tried for a first plan."""
    request: VictimRequest
    fits: dict[str, list[PlannedSample]]
    """By attack, the samples that a first plan fits its universal perturbation to."""
    predecessors: dict[str, str]
    """By content root, the folders of the corpora that attacks start from."""
    notes: list[str]
    """What was shown while it was prepared: what was passed over, and warnings."""

    def problems(self, key: bytes) -> tuple[list[QuarantineRecord], dict[str, str]]:
        """Quarantine records of inputs, and the private path (or what happened) behind each record's public name.

        `source` is a keyed hash of the path: the maker finds the file through .medadv/sources.json, nobody else does.
        """
        records, paths = [], {}
        for problem in self.survey.problems:
            name = keyed_hash(key, problem.path)
            paths[name] = problem.path
            records.append(QuarantineRecord(source=name, code=problem.code, message=problem.message, advice=problem.advice))
        for sample, how in sorted(self.gone.items()):
            paths[sample] = how
            reason = InputError("changed-input", f"The input was {how} after the plan was made; what is stored of it stays.")
            records.append(QuarantineRecord.of_sample(sample, reason))
        return records, paths


def prepare(
    spec: RunSpec,
    base: Path,
    workspace: Workspace,
    options: Options,
    progress: Progress,
    stop: Stop | None = None,
    *,
    measure: bool = True,
    told: Sequence[str] = (),
) -> Prepared:
    """Survey the inputs, hold the settings against the corpus, and cut what is new into shards.

    measure: whether to find out what `auto` stands for in a first plan, which attacks a batch several times.
    told: what reading the spec found out; shown and kept with the other notes.

    Raises:
        SpecError: wrong spec, or settings or a meaning version other than the corpus was made with.
        RunError: the inputs of an existing corpus are all gone.
        StoppedError: a signal came.
    """
    require_codec(spec.execution.codec)
    check_threads(spec.execution.threads)
    plans = generations(workspace.plans)
    refuse_other_meaning(plans, workspace.root)
    if not plans:
        # A corpus that was begun with such a name goes on: its settings cannot change any more.
        refuse_reserved(spec.attacks)
        refuse_paths(spec)
    source = base / spec.data.path
    vanished = RunError(f"{source} vanished or holds none of the corpus's inputs: is it mounted? The corpus is as it was")
    if plans and not source.exists():
        raise vanished
    hashes = FileHashes(workspace.file_cache, rehash=options.rehash)
    # Without a key nothing was planned, so nothing depends on it yet.
    key = workspace.key.read_bytes() if workspace.key.exists() else secrets.token_bytes(KEY_BYTES)
    show = progress if stop is None else Passing(progress, first=partial(stop.check, "nothing was changed"))
    try:
        seen = survey(spec, base, hashes, key, show, forgotten := forgotten_groups(workspace))
    except NothingFoundError:
        if plans and any(plan.samples for plan in plans):
            raise vanished from None
        raise
    check_kernels(spec, seen)
    notes: list[str] = []

    def note(text: str) -> None:
        notes.append(text)
        progress.message(text)

    for text in (*told, *seen.notes):
        note(text)
    stand = retired(plans)
    samples = {s.id: s for plan in plans for shard in plan.lines() if shard.index not in stand for s in shard.samples}
    request = VictimRequest.of(spec, base, options.trust_code, seen.found[0].shape.x_first)
    victim = check_victim(spec, request, seen, first=not plans)
    for text in victim.notes:
        note(f"victim: {text}")
    mask_255 = plans[0].settings.data.mask_255 if plans else None
    if spec.data.task == "segmentation":
        seen, mask_255 = settle_masks(seen, spec, highest_class(victim), samples.keys(), mask_255)
    identity = victim.identity
    if plans and plans[0].settings.victim.code_sha256 is None and not victim.named:
        # A corpus that was begun before code was hashed cannot tell whether it is still the same, and goes on.
        identity = replace(identity, code_sha256=None)
    unit = seen.found[0].shape.unit
    warm = warm_starts(spec, base, workspace, plans, unit)
    settings = frozen_settings(spec.model_copy(update={"attacks": warm.attacks}), identity, unit, seen.classes, mask_255, victim.named)
    # As the victim can be attacked; the spec is kept as it was written.
    names = class_names(settings.data)
    attacks: dict[str, AttackSettings] = {}
    for name, attack in warm.attacks.items():
        own = {name: attack}
        for judge in facing(victim, attack):
            own, replaced = fitted(with_indices(own, judge, names), judge)
            for text in replaced:
                note(text)
        attacks |= own
    settings = settings.model_copy(update={"attacks": attacks})
    resolved = spec.model_copy(update={"attacks": attacks})
    fits: dict[str, list[PlannedSample]] = {}
    if plans:
        settings = _executed(settings, resolve.as_planned(spec, settings.execution, plans[0].settings.execution))
        # What was fitted is no setting that a spec could change.
        refuse_change({**plain(plans[0].settings), "universal": None}, {**plain(settings), "universal": None}, workspace.root)
        if plans[-1].settings.universal:
            settings = settings.model_copy(update={"universal": plans[-1].settings.universal})
        # The column is no public setting, but other labels are another corpus.
        label = plans[0].spec.data.label
        refuse_change({"data": {"label": label}}, {"data": {"label": spec.data.label}}, workspace.root)
    found = {item.sample.id: item.sample.label_sha256 for item in seen.found}
    paths = set(image_lists(item.sample for item in seen.found).values())
    there = {key: images in paths for key, images in image_lists(samples.values()).items()}
    if samples and not found.keys() & samples.keys() and not any(there.values()):
        raise vanished
    gone = {name: "changed" if there[id(s.source.images)] else "removed" for name, s in samples.items() if name not in found}
    gone |= {name: "given another label" for name, s in samples.items() if found.get(name, s.label_sha256) != s.label_sha256}
    additional = [item for item in seen.found if item.sample.id not in samples]
    if plans and settings.universal and additional:
        homes = fits_of(plans)
        additional = without_fitted(additional, {group for home in homes.values() for group in home.groups}, spec.data)
        check_shapes({*(item.shape.shape for item in additional), *(home.samples.shape for home in homes.values())})
        note(f"new samples are given {', '.join(homes)} as fitted when the corpus was begun; nothing is fitted again")
    fresh = [(item.shape.shape, item.sample) for item in additional]
    tuning: list[TuningRecord] = []
    if not plans:
        fits = fit_samples(resolved, base, hashes, key, show, forgotten, seen, victim, mask_255, note)
        reader = Reader(seen.root, spec.data, spec.preprocess, spec.victim.head == "sigmoid")
        first = cut(fresh, spec.execution.model_copy(update={"batch_size": spec.execution.batch}))
        for warning in (text for each in each_of(victim) for text in check_outputs(each, first, reader)):
            note(f"warning: {warning}")
        exact = exact_profile(victim.scored.module, settings.execution.device)
        if measure:
            execution, tuning = resolve.measured(resolved, settings.execution, exact, fresh, request, seen.root, progress.message)
        else:
            execution = settings.execution.model_copy(update={"profile": exact.facts()})
        settings = _executed(settings, execution)
    new = cut(fresh, spec.execution.model_copy(update={"batch_size": settings.execution.batch_size}), first_index=next_shard(plans))
    tell_starts(settings, warm.folders, new, not plans, note)
    return Prepared(spec, base, workspace, seen, settings, plans, new, gone, hashes, tuning, request, fits, warm.folders, notes)


def _executed(settings: PlanSettings, execution: ExecutionFacts) -> PlanSettings:
    return settings.model_copy(update={"execution": execution})


def refuse_more_of_another_meaning(spec: RunSpec, base: Path, workspace: Workspace, plans: list[FrozenPlan]) -> None:
    """Raise SpecError where a whole corpus of another meaning version is asked for more than it holds: other settings, or new inputs.

    Names are all that is looked at: today's rules for inputs are not those that it was made by.
    """
    changed = differences(whole(plans[-1].spec), whole(spec))
    made_with, now = plans[0].settings, spec.victims or {"": spec.victim}
    other = now.keys() != (made_with.victims.keys() or {""})
    for name, facts in () if other else (made_with.victims or {"": made_with.victim}).items():
        hashes = [hash_file(base / file) for file in now[name].weight_files]
        other |= bool(hashes) and hashes != facts.hashes
    held = {name for plan in plans for shard in plan.lines() for images in image_lists(shard.samples).values() for name in images}
    held |= set(known_sources(workspace).values())
    listing = list_samples(spec.data, base)
    # A layout may start names elsewhere than an earlier version did: at data.path, for one.
    ways = ((s.images[0], os.path.relpath(listing.root / s.images[0], base / spec.data.path)) for s in listing.sources)
    more = any(held.isdisjoint(names) for names in ways)
    if more or other or any(line.partition(":")[0] not in ("output", "execution.workers") for line in changed):
        refuse_other_meaning(plans, workspace.root)
