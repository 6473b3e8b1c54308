"""Make a corpus: survey the inputs, freeze the plan, make the shards that are missing, write the manifest. Running again resumes."""

import json
import math
import secrets
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import torch

from medadv import cluster
from medadv.errors import RunError, SpecError
from medadv.hashing import canonical_json, keyed_hash
from medadv.lock import held
from medadv.plan.cut import cut
from medadv.plan.files import FileHashes
from medadv.plan.frozen import FrozenPlan, freeze, generations, refuse_change
from medadv.plan.model import PlannedShard
from medadv.plan.settings import frozen_settings
from medadv.plan.survey import Survey, survey
from medadv.provenance.manifest import build_manifest, read_manifest, read_receipt, write_manifest
from medadv.spec.run import RunSpec, load_spec
from medadv.store.writer import write_file
from medadv.victims.loading import Identity, load_victim
from medadv.workspace import Workspace, shard_name
from medadv_transforms import InputError

KEY_BYTES = 32

# Called with a phase ("inputs", "shards"), done, in all, and what to show beside.
Progress = Callable[[str, int, int, str], None]


@dataclass(frozen=True)
class Options:
    """What the command line adds to the spec."""

    out: Path | None = None
    overrides: list[str] = field(default_factory=list)
    scheduler: str | None = None
    trust_code: bool = False
    rehash: bool = False
    command: str = "medadv run"


@dataclass(frozen=True)
class Result:
    """What a run made or found."""

    corpus: Path
    manifest: dict[str, Any]
    new_shards: int
    newly_quarantined: int

    @property
    def exit_code(self) -> int:
        """0, or 3 when this run quarantined inputs."""
        return 3 if self.newly_quarantined else 0

    def as_dict(self) -> dict[str, Any]:
        """The machine-readable result."""
        manifest = self.manifest
        return {
            "corpus": str(self.corpus),
            "samples": manifest["samples"],
            "quarantined": manifest["quarantined"],
            "content_root": manifest["content_root"],
            "new_shards": self.new_shards,
            "attacks": {
                name: {key: m[key] for key in ("metric", "clean", "adversarial", "success")} for name, m in manifest["metrics"].items()
            },
        }


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
    vanished: list[str]
    """Ids of planned samples that the inputs no longer hold."""
    hashes: FileHashes

    @property
    def pending(self) -> int:
        """Shards still to be made."""
        made = sum(self.workspace.receipt(shard_name(i)).exists() for i in range(sum(p.shards for p in self.plans)))
        return sum(p.shards for p in self.plans) - made + len(self.new)


def locate(spec: RunSpec, spec_path: Path, out: Path | None) -> Workspace:
    """The corpus folder of a spec: --out, else `output` beside the spec, else corpora/NAME there."""
    base = spec_path.resolve().parent
    return Workspace((out or base / (spec.output or f"corpora/{spec.name}")).resolve())


def prepare(spec: RunSpec, base: Path, workspace: Workspace, options: Options, progress: Progress) -> Prepared:
    """Look at the inputs and the corpus, and say what would be done. Writes nothing."""
    if not (base / spec.data.path).exists() and workspace.manifest.exists():
        raise RunError(f"{base / spec.data.path} vanished; the corpus is as it was")
    hashes = FileHashes(workspace.file_cache, base, rehash=options.rehash)
    # Without a key nothing was planned, so nothing depends on it yet.
    key = workspace.key.read_bytes() if workspace.key.exists() else secrets.token_bytes(KEY_BYTES)
    seen = survey(spec, base, hashes, key, lambda done, total: progress("inputs", done, total, ""))
    identity = _check_victim(spec, base, seen, options.trust_code)
    settings = frozen_settings(spec, identity.as_dict(), seen.found[0].shape.unit, seen.classes)
    plans = generations(workspace.private / "plans")
    if plans:
        refuse_change(plans[0].settings, settings, workspace.root)
    planned = {sample.id for plan in plans for shard in plan.lines() for sample in shard.samples}
    found = {item.sample.id for item in seen.found}
    fresh = [(item.shape.shape, item.sample) for item in seen.found if item.sample.id not in planned]
    new = cut(fresh, spec.execution, first_index=sum(p.shards for p in plans))
    return Prepared(spec, base, workspace, seen, settings, plans, new, sorted(planned - found), hashes)


def run(spec_path: Path, options: Options, progress: Progress) -> Result:
    """Make or complete the corpus of a spec.

    Raises:
        SpecError: wrong spec, or settings other than the corpus was made with.
        LockedError: another run holds the corpus.
        RunError, IntegrityError: as their names say; every finished shard is kept.
    """
    started = datetime.now(UTC)
    spec = load_spec(spec_path, options.overrides)
    workspace = locate(spec, spec_path, options.out)
    try:
        workspace.make()
        with held(workspace.lock):
            if not workspace.key.exists():
                write_file(workspace.key, secrets.token_bytes(KEY_BYTES))
                workspace.key.chmod(0o600)
            return _run(prepare(spec, spec_path.resolve().parent, workspace, options, progress), options, progress, started)
    except OSError as error:
        raise RunError(f"{workspace.root}: {error.strerror or error}") from None


def _run(prepared: Prepared, options: Options, progress: Progress, started: datetime) -> Result:
    workspace, plans = prepared.workspace, list(prepared.plans)
    _sweep(workspace)
    if prepared.new:
        generation = len(plans)
        spec = prepared.spec.model_dump(mode="json", by_alias=True)
        folder = workspace.plan(generation)
        plans.append(freeze(folder, generation, prepared.settings, prepared.new, spec, prepared.base, prepared.survey.root))
    write_file(workspace.file_cache, prepared.hashes.content())
    pending = prepared.pending
    quarantined, first_seen = _quarantine(prepared)
    if not pending and workspace.manifest.exists() and not first_seen:
        return Result(workspace.root, read_manifest(workspace), 0, 0)
    lost = _make(prepared, plans, pending, options, progress)
    manifest = build_manifest(workspace, plans, quarantined, _times(options, started), _determinism(workspace))
    write_manifest(workspace, manifest)
    return Result(workspace.root, manifest, pending, first_seen + lost)


def _make(prepared: Prepared, plans: list[FrozenPlan], pending: int, options: Options, progress: Progress) -> int:
    """Make every shard without a receipt; returns how many samples were quarantined on the way."""
    workspace = prepared.workspace
    if not pending:
        return 0
    execution = prepared.spec.execution
    workers = cluster.default_workers(execution.threads) if execution.workers == "auto" else execution.workers
    lost = done = samples = 0
    progress("shards", 0, pending, "starting workers")
    with cluster.connect(min(workers, pending), options.scheduler) as client:
        for result in cluster.make_shards(client, _jobs(workspace, plans, options.trust_code)):
            done, samples, lost = done + 1, samples + result["samples"], lost + result["quarantined"]
            successes = ", ".join(f"{name} {count}/{result['samples']}" for name, count in result["success"].items())
            progress("shards", done, pending, f"{result['shard']}: {successes}")
    return lost


def _jobs(workspace: Workspace, plans: list[FrozenPlan], trust_code: bool) -> Iterator[tuple[str, int, dict[str, Any], bool]]:
    for plan in plans:
        for shard in plan.lines():
            if not workspace.receipt(shard_name(shard.index)).exists():
                yield str(workspace.root), plan.generation, shard.as_dict(), trust_code


def _check_victim(spec: RunSpec, base: Path, seen: Survey, trust_code: bool) -> Identity:
    """Load the victim once, so that what does not fit is said before any work."""
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
    return identity


def _sweep(workspace: Workspace) -> None:
    """Remove what killed workers left behind. Safe under the lock: nobody else writes here."""
    for stray in [*workspace.shards.glob(".tmp-*"), *workspace.root.glob(".tmp-*")]:
        stray.unlink(missing_ok=True)


def _quarantine(prepared: Prepared) -> tuple[list[dict[str, Any]], int]:
    """Records of the inputs that cannot be used, and how many of them no earlier run knew.

    `source` is a keyed hash of the path: the maker finds the file through .medadv/sources.json, nobody else does.
    """
    workspace = prepared.workspace
    key = workspace.key.read_bytes()
    known = json.loads(workspace.sources.read_text()) if workspace.sources.exists() else {}
    records, paths = [], {}
    for problem in prepared.survey.problems:
        name = keyed_hash(key, problem.path)
        paths[name] = problem.path
        records.append({"source": name, "code": problem.code, "message": problem.message, "advice": problem.advice})
    for sample in prepared.vanished:
        paths[sample] = "vanished"
        reason = InputError("changed-input")
        records.append({"sample": sample, "code": reason.code, "message": reason.message, "advice": reason.advice})
    write_file(workspace.sources, canonical_json({**known, **paths}))
    return records, len(paths.keys() - known.keys())


def _times(options: Options, started: datetime) -> dict[str, Any]:
    return {
        "command": options.command,
        "started": started.isoformat(timespec="seconds"),
        "finished": datetime.now(UTC).isoformat(timespec="seconds"),
    }


def _determinism(workspace: Workspace) -> dict[str, Any]:
    """`bitwise` only where every batch that was run twice gave the same bits."""
    receipts = (read_receipt(workspace, path.stem) for path in sorted(workspace.shards.glob("shard-*.json")))
    repeats = [receipt["repeat"] for receipt in receipts if receipt.get("repeat")]
    same = bool(repeats) and all(repeat["equal"] for repeat in repeats)
    return {"level": "bitwise" if same else "tolerance", "repeated": repeats, "holds_for": "the same hardware and package versions"}


def describe(spec_path: Path, options: Options, progress: Progress) -> dict[str, Any]:
    """What `run` would do with a spec: counts, bytes before compression, and what is there already."""
    spec = load_spec(spec_path, options.overrides)
    workspace = locate(spec, spec_path, options.out)
    prepared = prepare(spec, spec_path.resolve().parent, workspace, options, progress)
    values = sum(math.prod(shard.shape) * len(shard.samples) for shard in prepared.new)
    width = 2 if prepared.settings["data"]["unit"] == "hu" else 1
    per_value = width + sum(1 if a.epsilon <= 127 else 2 for a in spec.attacks.values())
    passes = sum(a.steps * (2 if a.weight else 1) for a in spec.attacks.values())
    return {
        "corpus": str(workspace.root),
        "samples": len(prepared.survey.found),
        "new_samples": sum(len(shard.samples) for shard in prepared.new),
        "new_shards": len(prepared.new),
        "shards_to_make": prepared.pending,
        "quarantined": len(prepared.survey.problems) + len(prepared.vanished),
        "bytes_before_compression": values * per_value,
        "gradient_passes_per_sample": passes,
    }
