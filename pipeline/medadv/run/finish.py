"""How does a run end? Quarantine, manifest and sanity checks of all that is committed."""

from collections.abc import Sequence
from datetime import UTC, datetime
from functools import partial

from medadv.common.errors import IntegrityError
from medadv.common.hashing import hash_file
from medadv.corpus import private
from medadv.corpus.assembling import build_manifest
from medadv.corpus.folder import Workspace, shard_name
from medadv.corpus.manifest import Determinism, Manifest, read_manifest, write_manifest
from medadv.corpus.measuring import determinism_of
from medadv.corpus.quarantine import QuarantineRecord, quarantine_line, read_quarantine
from medadv.corpus.receipt import read_receipt
from medadv.evidence.stored_strength import corpus_sanity, earlier
from medadv.plan.frozen import FrozenPlan, live
from medadv.run.working import Work


def up_to_date(workspace: Workspace, plans: list[FrozenPlan], problems: list[QuarantineRecord], left_out: list[QuarantineRecord]) -> bool:
    """Whether manifest, its hash and the quarantine list say what plans and receipts say: a run may have died before it wrote them."""
    try:
        manifest = read_manifest(workspace)
        digest = workspace.manifest_hash.read_text().split()[:1]
        kept = {record.sample for record in problems if record.sample is not None}
        expected = [quarantine_line(record) for record in [*problems, *(r for r in left_out if r.sample not in kept)]]
        return (
            manifest.run.status == "complete"
            and [generation.plan for generation in manifest.generations] == [p.hash for p in plans]
            and len(manifest.shards) <= sum(1 for _ in live(plans))
            and digest == [hash_file(workspace.manifest)]
            and workspace.quarantine.read_bytes().splitlines() == expected
            and all(hash_file(workspace.root / name) == value for name, value in manifest.files.items())
        )
    except (OSError, IntegrityError):
        return False


def finish(work: Work, plans: Sequence[FrozenPlan], problems: list[QuarantineRecord]) -> Manifest:
    """Write quarantine and manifest of everything that is committed; a complete corpus gets its sanity checks."""
    before = earlier(work.workspace)
    determinism, finished = _determinism(work.workspace, plans), datetime.now(UTC)
    manifest = build_manifest(work.workspace, list(plans), problems, work.options.command, work.started, finished, determinism)
    if manifest.run.status == "complete":
        trust_code, tick = work.options.trust_code, partial(_tick, work)
        tell = partial(_tell, work)
        sanity = corpus_sanity(work.workspace, manifest, plans[-1], before, trust_code=trust_code, tick=tick, tell=tell)
        manifest = manifest.model_copy(update={"sanity": sanity})
    write_manifest(work.workspace, manifest)
    return manifest


def _tick(work: Work, done: int, total: int) -> None:
    work.stop.check("every shard is made and kept; run again for the sanity checks and the manifest")
    work.progress("sanity", done, total, "on a few samples")


def _tell(work: Work, text: str) -> None:
    work.log("message", text=text)
    work.progress.message(text)


def remember_quarantine(workspace: Workspace, paths: dict[str, str]) -> int:
    """How many quarantined inputs no earlier run had told of; the private names of all of them are kept."""
    named = {r.public_name: paths.get(r.public_name, r.code) for r in read_quarantine(workspace)}
    newly = named.keys() - private.known_sources(workspace).keys()
    private.remember_sources(workspace, named)
    return len(newly)


def recorded(workspace: Workspace) -> list[QuarantineRecord]:
    """Quarantine records of inputs as last written; a stopped run adds none."""
    return [record for record in read_quarantine(workspace) if record.source is not None]


def _determinism(workspace: Workspace, plans: Sequence[FrozenPlan]) -> Determinism:
    # The first shard of each plan is the one of which a batch is run twice.
    names = (shard_name(index) for plan, index in live(plans) if index == plan.first_shard)
    return determinism_of(read_receipt(workspace, name) for name in names if workspace.receipt(name).exists())
