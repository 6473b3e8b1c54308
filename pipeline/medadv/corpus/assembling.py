"""The corpus's record: built from the frozen plans and the receipts, and nothing else but the times of the run."""

from collections.abc import Iterable, Iterator
from datetime import datetime

from medadv.common.files import write_file
from medadv.common.hashing import hash_file, hash_value, keyed_hash
from medadv.corpus.baseline import baseline
from medadv.corpus.croissant import croissant
from medadv.corpus.environment import environment, tool
from medadv.corpus.folder import Workspace, shard_name
from medadv.corpus.manifest import Determinism, Generation, Manifest, PrivacyFacts, RunFacts, ShardEntry
from medadv.corpus.measuring import count_starts, measure
from medadv.corpus.quarantine import QuarantineRecord, quarantine_line
from medadv.corpus.receipt import read_receipt
from medadv.plan.frozen import FrozenPlan, live
from medadv.plan.plan_settings import thresholds
from medadv.store.layout import FORMAT_VERSION
from medadv.store.reader import read_small


def corpus_root(plans: Iterable[FrozenPlan], roots: dict[int, list[str]]) -> str:
    """Content root of the corpus: a chain over its generations, each over its shards' roots in order."""
    value = ""
    for plan in plans:
        value = hash_value({"before": value, "plan": plan.hash, "shards": roots.get(plan.generation, [])})
    return value


def planned_names(plans: Iterable[FrozenPlan]) -> Iterator[tuple[FrozenPlan, str]]:
    """Every planned shard's name, with its plan; those that a later generation stands for are left out."""
    for plan, index in live(list(plans)):
        yield plan, shard_name(index)


def build_manifest(
    workspace: Workspace,
    plans: list[FrozenPlan],
    quarantined: list[QuarantineRecord],
    command: str,
    started: datetime,
    finished: datetime,
    determinism: Determinism,
) -> Manifest:
    """The manifest of everything committed so far; `run.status` says whether that is all that was planned.

    quarantined: records for `quarantine.jsonl`, which is written here, as is `croissant.json`.
    """
    settings = plans[0].settings
    shards: list[ShardEntry] = []
    files: dict[str, str] = {}
    roots: dict[int, list[str]] = {}
    missing = 0
    samples = 0
    vanished = {record.sample for record in quarantined if record.sample is not None}
    quarantined = [*quarantined]
    for plan, name in planned_names(plans):
        if not workspace.receipt(name).exists():
            missing += 1
            continue
        receipt = read_receipt(workspace, name)
        # A sample that had vanished before its shard was made is known from the survey already.
        quarantined += [record for record in receipt.quarantined if record.sample not in vanished]
        roots.setdefault(plan.generation, []).append(receipt.content_root)
        if receipt.sha256 is not None:
            samples += receipt.samples
            shards.append(
                ShardEntry(
                    path=f"shards/{name}.h5",
                    bytes=receipt.bytes,
                    sha256=receipt.sha256,
                    receipt_sha256=hash_file(workspace.receipt(name)),
                    samples=receipt.samples,
                    content_root=receipt.content_root,
                    generation=plan.generation,
                )
            )
        else:
            # A shard that lost every sample has no file of its own, but its receipt counts.
            files[f"shards/{name}.json"] = hash_file(workspace.receipt(name))
    universal = plans[-1].settings.universal
    files |= {path.relative_to(workspace.root).as_posix(): hash_file(path) for path in map(workspace.universal, universal)}
    write_file(workspace.quarantine, b"".join(quarantine_line(record) + b"\n" for record in quarantined))
    paths = [workspace.root / shard.path for shard in shards]
    small = [read_small(path) for path in paths]
    metrics = measure(small, settings.data.task, settings.attacks, thresholds(settings))
    first = next(iter(metrics.values()))
    manifest = Manifest(
        format="medadv",
        format_version=FORMAT_VERSION,
        name=settings.name,
        content_root=corpus_root(plans, roots),
        samples=samples,
        quarantined=len(quarantined),
        shards=shards,
        files={**files, workspace.quarantine.name: hash_file(workspace.quarantine)},
        generations=[Generation(plan=p.hash, shards=p.shards, samples=p.samples, replaces=list(p.replaces)) for p in plans],
        data=settings.data,
        preprocess=settings.preprocess,
        victim=settings.victim,
        **({"victims": settings.victims} if settings.victims else {}),
        attacks=settings.attacks,
        **({"universal": universal} if universal else {}),
        **({"starts": starts} if (starts := count_starts(small, settings.attacks)) else {}),
        execution=settings.execution,
        tuning=list(plans[0].tuning),
        metrics=metrics,
        baseline=baseline(settings.data, first, list(zip(paths, small, strict=True))) if shards else None,
        determinism=determinism,
        environment=environment(),
        tool=tool(),
        privacy=PrivacyFacts(
            group_id="HMAC-SHA-256 of the group under a secret key that is not published",
            sample_id="SHA-256 of the input file's content, cut to 32 digits, and a slice number",
            source_paths="not published",
            # Corpora made with one key have comparable group ids; nothing else can be learnt from this.
            group_key_id=keyed_hash(workspace.key.read_bytes(), "key id")[:16],
        ),
        run=RunFacts(
            command=command,
            started=started.isoformat(timespec="seconds"),
            finished=finished.isoformat(timespec="seconds"),
            status="partial" if missing else "complete",
            shards_missing=missing,
        ),
    )
    write_file(workspace.croissant, croissant(manifest))
    return manifest.model_copy(update={"files": {**manifest.files, workspace.croissant.name: hash_file(workspace.croissant)}})
