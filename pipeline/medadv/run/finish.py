"""How does a run end? Quarantine, manifest and sanity checks of all that is committed."""

import json
from collections.abc import Sequence
from datetime import UTC, datetime
from functools import partial
from typing import Any

from medadv.common.errors import IntegrityError
from medadv.common.hashing import canonical_json, hash_file
from medadv.corpus import private
from medadv.corpus.assembling import build_manifest
from medadv.corpus.folder import Workspace, shard_name
from medadv.corpus.manifest import read_manifest, write_manifest
from medadv.corpus.receipt import read_receipt
from medadv.evidence.stored_strength import corpus_sanity, earlier
from medadv.plan.frozen import FrozenPlan, live
from medadv.run.working import Work


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
    newly = named.keys() - private.known_sources(workspace).keys()
    private.remember_sources(workspace, named)
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
