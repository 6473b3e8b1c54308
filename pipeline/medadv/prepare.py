"""What a run would do: look at the inputs and at what the corpus holds already. Writes nothing."""

import math
import os
import secrets
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch

from medadv import resolve
from medadv.cluster import Address, default_workers
from medadv.commit import committed
from medadv.drain import Stop
from medadv.errors import RunError, SpecError
from medadv.estimate import seconds_to_make
from medadv.hashing import hash_file, keyed_hash
from medadv.plan.cut import cut
from medadv.plan.files import FileHashes
from medadv.plan.frozen import FrozenPlan, differences, generations, live_lines, next_shard, refuse_change, refuse_other_meaning, retired
from medadv.plan.model import PlannedShard
from medadv.plan.settings import frozen_settings, resolve_device
from medadv.plan.survey import NothingFoundError, Survey, list_samples, settle_masks, survey
from medadv.spec.run import RunSpec, load_spec
from medadv.state import KEY_BYTES, forgotten_groups, known_sources
from medadv.store.codecs import require_codec
from medadv.victims.loading import Identity, load_victim
from medadv.victims.profiles import Profile, exact_profile
from medadv.victims.segmentation import Segmenter
from medadv.watch import Progress
from medadv.workspace import Workspace, shard_name
from medadv_transforms import InputError

GRACE_S = 20.0


@dataclass(frozen=True)
class Options:
    """What the command line adds to the spec."""

    out: Path | None = None
    overrides: list[str] = field(default_factory=list)
    scheduler: Address = field(default_factory=Address)
    trust_code: bool = False
    rehash: bool = False
    command: str = "medadv run"
    grace_s: float = GRACE_S
    """How long running shards may go on after a signal."""


@dataclass(frozen=True)
class Prepared:
    """Everything known before work begins. `new` are the shards that no plan holds yet."""

    spec: RunSpec
    base: Path
    workspace: Workspace
    survey: Survey
    settings: dict[str, Any]
    plans: list[FrozenPlan]
    new: list[PlannedShard]
    gone: dict[str, str]
    """Ids of planned samples that the inputs no longer hold as planned: `removed`, `changed` or `given another label`."""
    hashes: FileHashes
    tuning: list[dict[str, Any]]
    """The execution profiles that were tried for a first plan."""

    def problems(self, key: bytes) -> tuple[list[dict[str, Any]], dict[str, str]]:
        """Quarantine records of inputs, and the private path (or what happened) behind each record's public name.

        `source` is a keyed hash of the path: the maker finds the file through .medadv/sources.json, nobody else does.
        """
        records, paths = [], {}
        for problem in self.survey.problems:
            name = keyed_hash(key, problem.path)
            paths[name] = problem.path
            records.append({"source": name, "code": problem.code, "message": problem.message, "advice": problem.advice})
        for sample, how in sorted(self.gone.items()):
            paths[sample] = how
            reason = InputError("changed-input", f"The input was {how} after the plan was made; what is stored of it stays.")
            records.append({"sample": sample, "code": reason.code, "message": reason.message, "advice": reason.advice})
        return records, paths


def locate(spec: RunSpec, spec_path: Path, out: Path | None) -> Workspace:
    """The corpus folder of a spec: --out, else `output` beside the spec, else corpora/NAME there."""
    base = spec_path.resolve().parent
    return Workspace((out or base / (spec.output or f"corpora/{spec.name}")).resolve())


def prepare(
    spec: RunSpec,
    base: Path,
    workspace: Workspace,
    options: Options,
    progress: Progress,
    stop: Stop | None = None,
    *,
    measure: bool = True,
) -> Prepared:
    """Survey the inputs, hold the settings against the corpus, and cut what is new into shards.

    measure: whether to find out what `auto` stands for in a first plan, which attacks a batch several times.

    Raises:
        SpecError: wrong spec, or settings or a meaning version other than the corpus was made with.
        RunError: the inputs of an existing corpus are all gone.
        StoppedError: a signal came.
    """
    require_codec(spec.execution.codec)
    plans = generations(workspace.private / "plans")
    refuse_other_meaning(plans, workspace.root)
    source = base / spec.data.path
    vanished = RunError(f"{source} vanished or holds none of the corpus's inputs: is it mounted? The corpus is as it was")
    if plans and not source.exists():
        raise vanished
    hashes = FileHashes(workspace.file_cache, rehash=options.rehash)
    # Without a key nothing was planned, so nothing depends on it yet.
    key = workspace.key.read_bytes() if workspace.key.exists() else secrets.token_bytes(KEY_BYTES)

    def show(done: int, total: int) -> None:
        if stop is not None:
            stop.check("nothing was changed")
        progress("inputs", done, total, "")

    try:
        seen = survey(spec, base, hashes, key, show, forgotten_groups(workspace))
    except NothingFoundError:
        if plans and any(plan.samples for plan in plans):
            raise vanished from None
        raise
    _check_kernels(spec, seen)
    for note in seen.notes:
        progress("message", 0, 0, note)
    stand = retired(plans)
    samples = {s.id: s for plan in plans for shard in plan.lines() if shard.index not in stand for s in shard.samples}
    identity, exact, highest = _check_victim(spec, base, seen, options.trust_code)
    known = plans[0].settings["data"].get("mask_255") if plans else None
    seen, mask_255 = settle_masks(seen, spec, highest, samples.keys(), known) if spec.data.task == "segmentation" else (seen, None)
    settings = frozen_settings(spec, identity.as_dict(), seen.found[0].shape.unit, seen.classes, mask_255)
    if plans:
        settings["execution"] = resolve.as_planned(spec, settings["execution"], plans[0].settings["execution"])
        refuse_change(plans[0].settings, settings, workspace.root)
        # The column is no public setting, but other labels are another corpus.
        label = plans[0].spec["data"].get("label")
        refuse_change({"data": {"label": label}}, {"data": {"label": spec.data.label}}, workspace.root)
    planned = {name: sample.source.images for name, sample in samples.items()}
    found = {item.sample.id: item.sample.label_sha256 for item in seen.found}
    paths = {item.sample.source.images for item in seen.found}
    if planned and not found.keys() & planned.keys() and not paths & set(planned.values()):
        raise vanished
    gone = {name: "changed" if images in paths else "removed" for name, images in planned.items() if name not in found}
    gone |= {name: "given another label" for name, s in samples.items() if found.get(name, s.label_sha256) != s.label_sha256}
    fresh = [(item.shape.shape, item.sample) for item in seen.found if item.sample.id not in planned]
    tuning: list[dict[str, Any]] = []
    if not plans and not measure:
        settings["execution"] = {**settings["execution"], "profile": exact.as_dict()}
    elif not plans:
        settings["execution"], tuning = resolve.measured(
            spec, settings["execution"], exact, fresh, base, seen.root, options.trust_code, lambda text: progress("message", 0, 0, text)
        )
    execution = spec.execution.model_copy(update={"batch_size": settings["execution"]["batch_size"]})
    new = cut(fresh, execution, first_index=next_shard(plans))
    return Prepared(spec, base, workspace, seen, settings, plans, new, gone, hashes, tuning)


def _check_kernels(spec: RunSpec, seen: Survey) -> None:
    """Reflection at the edges needs axes longer than half a kernel; axes of one voxel are not smoothed."""
    for name, attack in spec.attacks.items():
        # Kernels in mm are as long as each image's spacing asks for, at most as long as in voxels.
        sizes = {"kernel_size": attack.kernel_size if attack.weight and attack.sigma_unit == "voxel" else 0}
        sizes["gradient_kernel_size"] = attack.gradient_kernel_size if attack.gradient_sigma else 0
        for key, size in sizes.items():
            for item in seen.found:
                if any(1 < length <= size // 2 for length in item.shape.shape[1:]):
                    raise SpecError(
                        f"attacks.{name}.{key}={size} does not fit {item.sample.source.images[0]} of {list(item.shape.shape[1:])} voxels: "
                        "take a smaller kernel, or leave that image out"
                    )


def _check_victim(spec: RunSpec, base: Path, seen: Survey, trust_code: bool) -> tuple[Identity, Profile, int]:
    """Load the victim once, so that what does not fit is said before any work; also tells its fp32 profile and its masks' highest class."""
    victim, identity = load_victim(
        spec.victim,
        spec.data.task,
        base,
        device=torch.device("cpu"),
        sample_shape=seen.found[0].shape.shape,
        trust_code=trust_code,
    )
    if spec.data.task == "classification" and not spec.data.unlabelled:
        for item in seen.found:
            try:
                victim.as_label(item.sample.source.label)
            except ValueError as error:
                raise SpecError(f"data.label: {error}") from None
    highest = victim.highest if isinstance(victim, Segmenter) else 0
    return identity, exact_profile(victim.module, resolve_device(spec.execution.device)), highest


def refuse_more_of_another_meaning(spec: RunSpec, base: Path, workspace: Workspace, plans: list[FrozenPlan]) -> None:
    """Raise SpecError where a whole corpus of another meaning version is asked for more than it holds: other settings, or new inputs.

    Names are all that is looked at: today's rules for inputs are not those that it was made by.
    """
    changed = differences(plans[-1].spec, spec.model_dump(mode="json", by_alias=True))
    weights = spec.victim.weights
    other = weights is not None and hash_file(base / weights) != plans[0].settings["victim"]["weights_sha256"]
    held = {source for plan in plans for shard in plan.lines() for s in shard.samples for source in s.source.images}
    held |= set(known_sources(workspace).values())
    listing = list_samples(spec.data, base)
    # A layout may start names elsewhere than an earlier version did: at data.path, for one.
    ways = ((s.images[0], os.path.relpath(listing.root / s.images[0], base / spec.data.path)) for s in listing.sources)
    more = any(held.isdisjoint(names) for names in ways)
    if more or other or any(line.partition(":")[0] not in ("output", "execution.workers") for line in changed):
        refuse_other_meaning(plans, workspace.root)


def describe(spec_path: Path, options: Options, progress: Progress, stop: Stop | None = None) -> dict[str, Any]:
    """What `run` would do with a spec: counts, bytes before compression, time on this machine, and what is there already."""
    spec, base = load_spec(spec_path, options.overrides), spec_path.resolve().parent
    workspace = locate(spec, spec_path, options.out)
    prepared = prepare(spec, base, workspace, options, progress, stop, measure=False)
    values = sum(math.prod(shard.shape) * len(shard.samples) for shard in prepared.new)
    width = 2 if prepared.settings["data"]["unit"] == "hu" else 1
    per_value = width + sum(1 if a.epsilon <= 127 else 2 for a in spec.attacks.values())
    passes = sum(a.steps * (2 if a.weight else 1) for a in spec.attacks.values())
    missing = [shard for plan, shard in live_lines(prepared.plans) if committed(workspace, shard_name(shard.index), plan.hash) is None]
    execution, to_make = prepared.settings["execution"], missing + prepared.new
    workers = default_workers(spec.execution.threads, execution["device"]) if spec.execution.workers == "auto" else spec.execution.workers
    seconds = seconds_to_make(spec, execution, to_make, base, prepared.survey.root, workers, options.trust_code) if to_make else 0.0
    return {
        "corpus": str(workspace.root),
        "samples": len(prepared.survey.found),
        "new_samples": sum(len(shard.samples) for shard in prepared.new),
        "new_shards": len(prepared.new),
        "shards_to_make": len(to_make),
        "quarantined": len(prepared.survey.problems) + len(prepared.gone),
        "bytes_before_compression": values * per_value,
        "gradient_passes_per_sample": passes,
        "workers": workers,
        "estimated_seconds": None if seconds is None else float(f"{seconds:.2g}"),  # a guess deserves two digits
    }
