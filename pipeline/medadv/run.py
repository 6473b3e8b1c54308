"""Make a corpus: survey the inputs, freeze the plan, make the shards that are missing, write the manifest. Running again resumes."""

import json
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import Any

from medadv import cluster, journal, state
from medadv.commit import committed
from medadv.drain import Stop
from medadv.drive import drive
from medadv.errors import IntegrityError, LockedError, MedadvError
from medadv.failures import explain
from medadv.hashing import canonical_json, hash_file
from medadv.lock import Hold, alive_holder, describe_holder, held
from medadv.log import Log
from medadv.plan.frozen import FrozenPlan, freeze, generations, live, live_lines, meaning_of, next_shard, refuse_other_meaning
from medadv.plan.model import MEANING_VERSION
from medadv.prepare import Options, Prepared, describe, locate, prepare, refuse_more_of_another_meaning
from medadv.provenance.manifest import build_manifest, read_manifest, read_receipt, write_manifest
from medadv.retire import remove_retired
from medadv.selfcheck import corpus_sanity, earlier
from medadv.spec.run import ExecutionSettings, RunSpec, load_spec
from medadv.store.writer import write_file
from medadv.watch import Progress, Watch
from medadv.worker import Job
from medadv.workspace import Workspace, shard_name

__all__ = ["Options", "Progress", "Result", "describe", "run"]


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
class Work:
    """What the shards of a corpus are made with, whoever asks for them: a run, a part of one, or `forget`."""

    workspace: Workspace
    hold: Hold
    options: Options
    progress: Progress
    stop: Stop
    log: Log
    started: datetime


@contextmanager
def working(workspace: Workspace, options: Options, progress: Progress, stop: Stop) -> Iterator[Work]:
    """Hold a corpus and everything that work on it needs; failures of the machine become one line.

    Raises:
        LockedError: another run or part holds the corpus.  RunError: no space, no permission, no memory.
    """
    started = datetime.now(UTC)
    log = None
    try:
        workspace.make()
        with held(workspace.lock) as hold:
            for path in workspace.parts.glob("*.lock"):
                if holder := alive_holder(path):
                    raise LockedError(f"part {path.stem} of a job array holds this corpus: {describe_holder(holder)}")
            log = Log(workspace.log, run=hold.token)
            log("start", command=options.command)
            state.sweep(workspace)
            journal.clear(workspace)
            yield Work(workspace, hold, options, progress, stop, log, started)
    except (OSError, MemoryError, RuntimeError) as error:
        expected = explain(error, workspace.root)
        if log is not None:
            log("failed", error=str(expected or error))
        if expected is None:
            raise
        raise expected from None
    except MedadvError as error:
        if log is not None:
            log("failed", error=str(error), exit_code=error.exit_code)
        raise


def run(spec_path: Path, options: Options, progress: Progress, stop: Stop | None = None) -> Result:
    """Make or complete the corpus of a spec.

    Raises:
        SpecError: wrong spec, or settings other than the corpus was made with.
        LockedError: another run holds the corpus.
        StoppedError: `stop` was signalled.
        RunError, IntegrityError: as their names say; every finished shard is kept.
    """
    stop = stop or Stop()
    spec = load_spec(spec_path, options.overrides)
    workspace = locate(spec, spec_path, options.out)
    with working(workspace, options, progress, stop) as work:
        key = state.ensure_key(workspace)
        # A killed `forget` is completed before anything else.
        earlier_plans = generations(workspace.private / "plans")
        remove_retired(workspace, earlier_plans)
        if meaning_of(earlier_plans) != MEANING_VERSION:
            return _as_it_is(work, spec, spec_path.resolve().parent, earlier_plans)
        prepared = prepare(spec, spec_path.resolve().parent, workspace, options, progress, stop)
        stop.check("nothing was changed")
        plans = extended(prepared, work.log)
        problems, paths = prepared.problems(key)
        missing, left_out = look_through(workspace, plans)
        if gone := prepared.gone:
            counts = ", ".join(f"{count} {how}" for how, count in sorted(Counter(gone.values()).items()))
            work.progress("message", 0, 0, f"inputs since they were planned: {counts}")
        if not missing and up_to_date(workspace, plans, problems, left_out):
            work.log("finished", new_shards=0, nothing_new=True)
            return Result(workspace.root, read_manifest(workspace), 0, 0)
        make_missing(work, plans, missing, spec.execution)
        manifest = finish(work, plans, problems)
        newly = remember_quarantine(workspace, paths)
        work.log("finished", new_shards=len(missing), samples=manifest["samples"], content_root=manifest["content_root"])
        return Result(workspace.root, manifest, len(missing), newly)


def _as_it_is(work: Work, spec: RunSpec, base: Path, plans: list[FrozenPlan]) -> Result:
    """A whole corpus of another meaning version has nothing new. SpecError where it would have to be finished or to grow."""
    workspace = work.workspace
    missing, _ = look_through(workspace, plans)
    if missing or not workspace.manifest.exists() or read_manifest(workspace)["run"]["status"] != "complete":
        refuse_other_meaning(plans, workspace.root)
    refuse_more_of_another_meaning(spec, base, workspace, plans)
    work.progress("message", 0, 0, f"made with meaning version {meaning_of(plans)}, now {MEANING_VERSION}: the corpus stays as it is")
    work.log("finished", new_shards=0, nothing_new=True)
    return Result(workspace.root, read_manifest(workspace), 0, 0)


def extended(prepared: Prepared, log: Log) -> list[FrozenPlan]:
    """The plans of the corpus, with what is new frozen as one more generation."""
    workspace, plans = prepared.workspace, list(prepared.plans)
    if prepared.new:
        spec = prepared.spec.model_dump(mode="json", by_alias=True)
        generation = len(plans)
        plans.append(
            freeze(
                workspace.plan(generation),
                generation,
                prepared.settings,
                prepared.new,
                spec,
                prepared.base,
                prepared.survey.root,
                first_shard=next_shard(plans),
                tuning=prepared.tuning,
            )
        )
        log("planned", generation=generation, shards=len(prepared.new), samples=plans[-1].samples)
        for record in prepared.tuning:
            log("profile", **record)
    write_file(workspace.file_cache, prepared.hashes.content())
    if prepared.survey.aside:
        write_file(workspace.aside, canonical_json(prepared.survey.aside))
    return plans


def look_through(workspace: Workspace, plans: Sequence[FrozenPlan]) -> tuple[list[str], list[dict[str, Any]]]:
    """Names of the shards still to be made, and the quarantine records of those that are committed."""
    missing: list[str] = []
    records: list[dict[str, Any]] = []
    for plan, index in live(plans):
        name = shard_name(index)
        receipt = committed(workspace, name, plan.hash)
        if receipt is None:
            missing.append(name)
        else:
            records += receipt["quarantined"]
    return missing, records


def up_to_date(workspace: Workspace, plans: list[FrozenPlan], problems: list[dict[str, Any]], left_out: list[dict[str, Any]]) -> bool:
    """Whether manifest, its hash and the quarantine list say what plans and receipts say: a run may have died before it wrote them."""
    try:
        manifest = read_manifest(workspace)
        digest = workspace.manifest.with_name("manifest.json.sha256").read_text().split()[:1]
        kept = {record["sample"] for record in problems if "sample" in record}
        expected = [canonical_json(r) for r in [*problems, *(r for r in left_out if r["sample"] not in kept)]]
        return (
            manifest["run"]["status"] == "complete"
            and [g["plan"] for g in manifest["generations"]] == [p.hash for p in plans]
            and len(manifest["shards"]) <= sum(1 for _ in live(plans))
            and digest == [hash_file(workspace.manifest)]
            and workspace.quarantine.read_bytes().splitlines() == expected
            and all(hash_file(workspace.root / name) == value for name, value in manifest["files"].items())
        )
    except (OSError, IntegrityError, KeyError):
        return False


def make_missing(work: Work, plans: Sequence[FrozenPlan], missing: Sequence[str], execution: ExecutionSettings) -> None:
    """Have the missing shards made. StoppedError after a signal, with a manifest of what there is."""
    if not missing:
        return
    workspace, options = work.workspace, work.options
    wanted = set(missing)
    samples = sum(len(shard.samples) for _, shard in live_lines(plans) if shard_name(shard.index) in wanted)
    watch = Watch(work.progress, work.log, len(missing), samples)
    device = plans[0].settings["execution"]["device"]
    workers = cluster.default_workers(execution.threads, device) if execution.workers == "auto" else execution.workers
    work.progress("shards", 0, len(missing), "starting workers")
    try:
        with cluster.connect(min(workers, len(missing)), execution.threads, device, options.scheduler) as pool:
            watch.message(pool.about)
            jobs = jobs_of(work, plans, wanted)
            drive(pool, workspace, jobs, work.hold, work.stop, options.grace_s, watch, lambda ids: state.remember_poison(workspace, ids))
    finally:
        state.sweep(workspace)
    if work.stop.signal is not None:
        if work.stop.count < 2:
            finish(work, plans, recorded(workspace))
        work.log("stopped", signal=work.stop.signal, made=watch.done, of=len(missing))
        raise work.stop.error(f"{watch.done} of {len(missing)} shards were made and are kept; run again to go on")


def jobs_of(work: Work, plans: Sequence[FrozenPlan], wanted: set[str]) -> Iterator[Job]:
    """The jobs of the wanted shards, one at a time."""
    workspace = work.workspace
    excluded = set(state.poison(workspace))
    for plan, shard in live_lines(plans):
        if shard_name(shard.index) in wanted:
            poison = tuple(sample.id for sample in shard.samples if sample.id in excluded)
            yield Job(
                str(workspace.root),
                plan.generation,
                shard.as_dict(),
                work.options.trust_code,
                str(work.hold.path),
                work.hold.token,
                poison,
            )


def finish(work: Work, plans: Sequence[FrozenPlan], problems: list[dict[str, Any]]) -> dict[str, Any]:
    """Write quarantine and manifest of everything that is committed; a complete corpus gets its sanity checks."""
    times = {
        "command": work.options.command,
        "started": work.started.isoformat(timespec="seconds"),
        "finished": datetime.now(UTC).isoformat(timespec="seconds"),
    }
    before = earlier(work.workspace)
    manifest = build_manifest(work.workspace, list(plans), problems, times, _determinism(work.workspace, plans))
    if manifest["run"]["status"] == "complete":
        tick = partial(_tick, work)
        manifest["sanity"] = corpus_sanity(
            work.workspace, manifest, plans[-1], before, trust_code=work.options.trust_code, tick=tick
        )
    write_manifest(work.workspace, manifest)
    return manifest


def _tick(work: Work, done: int, total: int) -> None:
    work.stop.check("every shard is made and kept; run again for the sanity checks and the manifest")
    work.progress("sanity", done, total, "on a few samples")


def remember_quarantine(workspace: Workspace, paths: dict[str, str]) -> int:
    """How many quarantined inputs no earlier run had told of; the private names of all of them are kept."""
    records = [json.loads(line) for line in workspace.quarantine.read_bytes().splitlines()]
    named = {r.get("source") or r["sample"]: paths.get(r.get("source") or r["sample"], r["code"]) for r in records}
    newly = named.keys() - state.known_sources(workspace).keys()
    state.remember_sources(workspace, named)
    return len(newly)


def recorded(workspace: Workspace) -> list[dict[str, Any]]:
    """Quarantine records of inputs as last written; a stopped run adds none."""
    try:
        records = [json.loads(line) for line in workspace.quarantine.read_bytes().splitlines()]
    except FileNotFoundError:
        return []
    return [record for record in records if "source" in record]


def _determinism(workspace: Workspace, plans: Sequence[FrozenPlan]) -> dict[str, Any]:
    """`bitwise` only where every batch that was run twice gave the same bits."""
    names = (shard_name(index) for _, index in live(plans))
    receipts = (read_receipt(workspace, name) for name in names if workspace.receipt(name).exists())
    repeats = [receipt["repeat"] for receipt in receipts if receipt.get("repeat")]
    same = bool(repeats) and all(repeat["equal"] for repeat in repeats)
    return {"level": "bitwise" if same else "tolerance", "repeated": repeats, "holds_for": "the same hardware and package versions"}
