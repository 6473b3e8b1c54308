"""The corpus's record: built from the frozen plans and the receipts, and nothing else but the times of the run."""

import json
from collections.abc import Iterable, Iterator
from typing import Any

from medadv.answers import Label
from medadv.errors import IntegrityError
from medadv.hashing import canonical_json, hash_bytes, hash_file, hash_value, keyed_hash
from medadv.metrics import corpus_metrics, summary
from medadv.plan.frozen import FrozenPlan, live
from medadv.provenance.croissant import croissant
from medadv.provenance.environment import environment, tool
from medadv.store.layout import FORMAT, FORMAT_VERSION, answer_at
from medadv.store.reader import read_small
from medadv.store.writer import write_file
from medadv.workspace import Workspace, shard_name


def corpus_root(plans: Iterable[FrozenPlan], roots: dict[int, list[str]]) -> str:
    """Content root of the corpus: a chain over its generations, each over its shards' roots in order."""
    value = ""
    for plan in plans:
        value = hash_value({"before": value, "plan": plan.hash, "shards": roots.get(plan.generation, [])})
    return value


def read_receipt(workspace: Workspace, name: str) -> dict[str, Any]:
    """A committed shard's receipt."""
    try:
        receipt = json.loads(workspace.receipt(name).read_bytes())
        if not isinstance(receipt, dict) or receipt.get("format") != FORMAT:
            raise ValueError
    except (OSError, ValueError):
        raise IntegrityError(f"shards/{name}.json: receipt cannot be read") from None
    return receipt


def read_manifest(workspace: Workspace) -> dict[str, Any]:
    """The manifest as written. IntegrityError where it cannot be read."""
    try:
        manifest = json.loads(workspace.manifest.read_bytes())
        if not isinstance(manifest, dict) or manifest.get("format") != FORMAT:
            raise ValueError
    except (OSError, ValueError):
        raise IntegrityError(f"{workspace.manifest}: cannot be read as a manifest") from None
    return manifest


def planned_names(plans: Iterable[FrozenPlan]) -> Iterator[tuple[FrozenPlan, str]]:
    """Every planned shard's name, with its plan; those that a later generation stands for are left out."""
    for plan, index in live(list(plans)):
        yield plan, shard_name(index)


def measure(workspace: Workspace, task: str, names: list[str], attacks: Iterable[str]) -> dict[str, Any]:
    """Metrics per attack over what the shards hold."""
    shards = [read_small(workspace.shard(name)) for name in names]
    found: dict[str, Any] = {}
    for attack in attacks:
        pairs: dict[str, list[tuple[Label, Label, float]]] = {"clean": [], "adversarial": []}
        success: list[float] = []
        for arrays in shards:
            prefix = f"attacks/{attack}"
            success += arrays[f"{prefix}/success"].tolist()
            for index in range(len(arrays["sample_id"])):
                for which, rows in pairs.items():
                    score = float(arrays[f"{prefix}/score_{which}"][index])
                    # Segmentation needs no masks here: the scores are the Dice values.
                    truth, answer = (0, 0) if task == "segmentation" else _answers(arrays, prefix, which, index)
                    rows.append((truth, answer, score))  # type: ignore[arg-type]
        clean, adversarial = (corpus_metrics(task, pairs[which]) for which in ("clean", "adversarial"))
        found[attack] = {**summary(task, clean, adversarial), "success": sum(success) / max(1, len(success))}
    return found


def _answers(arrays: dict[str, Any], prefix: str, which: str, index: int) -> tuple[Label, Label]:
    return answer_at(arrays, "label", index), answer_at(arrays, f"{prefix}/prediction_{which}", index)


def build_manifest(
    workspace: Workspace, plans: list[FrozenPlan], quarantined: list[dict[str, Any]], run: dict[str, Any], determinism: dict[str, Any]
) -> dict[str, Any]:
    """The manifest of everything committed so far; `run.status` says whether that is all that was planned.

    quarantined: records for `quarantine.jsonl`, which is written here, as is `croissant.json`.  run: command, times and the like.
    """
    settings = plans[0].settings
    shards: list[dict[str, Any]] = []
    files: dict[str, str] = {}
    roots: dict[int, list[str]] = {}
    missing = 0
    samples = 0
    vanished = {record["sample"] for record in quarantined if "sample" in record}
    for plan, name in planned_names(plans):
        if not workspace.receipt(name).exists():
            missing += 1
            continue
        receipt = read_receipt(workspace, name)
        # A sample that had vanished before its shard was made is known from the survey already.
        quarantined = quarantined + [r for r in receipt["quarantined"] if r["sample"] not in vanished]
        roots.setdefault(plan.generation, []).append(receipt["content_root"])
        if receipt["samples"]:
            samples += receipt["samples"]
            shards.append(
                {
                    "path": f"shards/{name}.h5",
                    "bytes": receipt["bytes"],
                    "sha256": receipt["sha256"],
                    "receipt_sha256": hash_file(workspace.receipt(name)),
                    "samples": receipt["samples"],
                    "content_root": receipt["content_root"],
                    "generation": plan.generation,
                }
            )
        else:
            # A shard that lost every sample has no file of its own, but its receipt counts.
            files[f"shards/{name}.json"] = hash_file(workspace.receipt(name))
    write_file(workspace.quarantine, b"".join(canonical_json(record) + b"\n" for record in quarantined))
    names = [shard["path"].removeprefix("shards/").removesuffix(".h5") for shard in shards]
    manifest: dict[str, Any] = {
        "format": FORMAT,
        "format_version": FORMAT_VERSION,
        "name": settings["name"],
        "content_root": corpus_root(plans, roots),
        "samples": samples,
        "quarantined": len(quarantined),
        "shards": shards,
        "files": {**files, workspace.quarantine.name: hash_file(workspace.quarantine)},
        "generations": [{"plan": p.hash, "shards": p.shards, "samples": p.samples, "replaces": list(p.replaces)} for p in plans],
        "data": settings["data"],
        "preprocess": settings["preprocess"],
        "victim": settings["victim"],
        "attacks": settings["attacks"],
        "execution": settings["execution"],
        "tuning": list(plans[0].tuning),
        "metrics": measure(workspace, settings["data"]["task"], names, settings["attacks"]),
        "determinism": determinism,
        "environment": environment(),
        "tool": tool(),
        "privacy": {
            "group_id": "HMAC-SHA-256 of the group under a secret key that is not published",
            "sample_id": "SHA-256 of the input file's content, cut to 32 digits, and a slice number",
            "source_paths": "not published",
            # Corpora made with one key have comparable group ids; nothing else can be learnt from this.
            "group_key_id": keyed_hash(workspace.key.read_bytes(), "key id")[:16],
        },
        "run": {**run, "status": "partial" if missing else "complete", "shards_missing": missing},
    }
    write_file(workspace.croissant, croissant(manifest))
    manifest["files"][workspace.croissant.name] = hash_file(workspace.croissant)
    return manifest


def write_manifest(workspace: Workspace, manifest: dict[str, Any]) -> None:
    """Write the manifest, readable by people, then its hash."""
    data = (json.dumps(manifest, indent=1, sort_keys=True, ensure_ascii=False, allow_nan=False) + "\n").encode()
    write_file(workspace.manifest, data)
    write_file(workspace.manifest_hash, f"{hash_bytes(data)}  manifest.json\n".encode())
