"""The corpus's record: built from the frozen plans and the receipts, and nothing else but the times of the run."""

from collections.abc import Iterable, Iterator, Sequence
from datetime import datetime

import numpy as np

from medadv.common.files import write_file
from medadv.common.hashing import hash_file, hash_value, keyed_hash
from medadv.corpus.baseline import baseline
from medadv.corpus.croissant import croissant
from medadv.corpus.environment import environment, tool
from medadv.corpus.folder import Workspace, shard_name
from medadv.corpus.manifest import Determinism, Generation, Manifest, Metrics, PrivacyFacts, RunFacts, ShardEntry
from medadv.corpus.quarantine import QuarantineRecord, quarantine_line
from medadv.corpus.receipt import Receipt, read_receipt
from medadv.datasets.labels import Array, Label
from medadv.plan.frozen import FrozenPlan, live
from medadv.scoring.attackable import answer_to_lose, dice_to_lose
from medadv.scoring.metrics import corpus_metrics, headline
from medadv.store.layout import FORMAT_VERSION, answer_at
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


def attackable_rows(arrays: dict[str, Array], attack: str, task: str, threshold: float) -> Array:
    """Which samples of a shard could be attacked, (n,) bool.

    arrays: the shard's small ones.  threshold: score from which a detection counts.
    """
    prefix = f"attacks/{attack}"
    scores = arrays[f"{prefix}/score_clean"]
    if task == "segmentation":
        return dice_to_lose(scores)
    answers = (_answers(arrays, prefix, "clean", index) for index in range(len(scores)))
    return np.array([answer_to_lose(clean, truth, threshold) for truth, clean in answers], bool)


def attacked(arrays: dict[str, Array], attack: str, task: str, threshold: float) -> tuple[int, int]:
    """How many samples of a shard could be attacked, and on how many of these the attack succeeds; arguments as above."""
    able = attackable_rows(arrays, attack, task, threshold)
    return int(able.sum()), int(arrays[f"attacks/{attack}/success"][able].sum())


def measure(shards: Sequence[dict[str, Array]], task: str, attacks: Iterable[str], threshold: float) -> dict[str, Metrics]:
    """Metrics per attack over the small arrays of all shards; threshold as above."""
    found: dict[str, Metrics] = {}
    for attack in attacks:
        pairs: dict[str, list[tuple[Label, Label, float]]] = {"clean": [], "adversarial": []}
        able = successes = 0
        for arrays in shards:
            prefix = f"attacks/{attack}"
            more = attacked(arrays, attack, task, threshold)
            able, successes = able + more[0], successes + more[1]
            for index in range(len(arrays["sample_id"])):
                for which, rows in pairs.items():
                    score = float(arrays[f"{prefix}/score_{which}"][index])
                    # Segmentation needs no masks here: the scores are the Dice values.
                    truth, answer = (0, 0) if task == "segmentation" else _answers(arrays, prefix, which, index)
                    rows.append((truth, answer, score))  # type: ignore[arg-type]
        clean, adversarial = (corpus_metrics(task, pairs[which]) for which in ("clean", "adversarial"))
        name = headline(task, clean)
        found[attack] = Metrics(
            metric=name,
            clean=clean.get(name),
            adversarial=adversarial.get(name),
            all={key: {"clean": clean[key], "adversarial": adversarial[key]} for key in clean},
            success=successes / able if able else None,
            attackable=able,
        )
    return found


def _answers(arrays: dict[str, Array], prefix: str, which: str, index: int) -> tuple[Label, Label]:
    return answer_at(arrays, "label", index), answer_at(arrays, f"{prefix}/prediction_{which}", index)


def determinism_of(receipts: Iterable[Receipt]) -> Determinism:
    """From the first shard of each plan, of which a batch is run twice: `bitwise` only where every such batch came out equal."""
    repeats = [receipt.repeat for receipt in receipts if receipt.repeat is not None]
    same = bool(repeats) and all(repeat.equal for repeat in repeats)
    return Determinism(level="bitwise" if same else "tolerance", repeated=repeats, holds_for="the same hardware and package versions")


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
    write_file(workspace.quarantine, b"".join(quarantine_line(record) + b"\n" for record in quarantined))
    paths = [workspace.root / shard.path for shard in shards]
    small = [read_small(path) for path in paths]
    metrics = measure(small, settings.data.task, settings.attacks, settings.victim.score_threshold)
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
        attacks=settings.attacks,
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
