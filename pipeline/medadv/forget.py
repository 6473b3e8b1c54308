"""Remove a patient from a corpus: the shards concerned go at once and are made anew without them, as a new generation."""

from collections.abc import Collection
from pathlib import Path

from medadv import state
from medadv.drain import Stop
from medadv.errors import RunError, SpecError
from medadv.hashing import canonical_json
from medadv.plan.cut import cut
from medadv.plan.files import FileHashes
from medadv.plan.frozen import FrozenPlan, freeze, generations, live_lines, next_shard, retired
from medadv.plan.model import PlannedShard
from medadv.prepare import Options
from medadv.provenance.manifest import read_manifest
from medadv.run import Result, finish, look_through, make_missing, recorded, working
from medadv.store.writer import write_file
from medadv.watch import Progress
from medadv.worker import plan_spec
from medadv.workspace import Workspace, shard_name


def forget(corpus: Path, group: str, options: Options, progress: Progress, stop: Stop | None = None) -> Result:
    """Delete what a corpus holds of a group, and make the other samples of its shards again.

    group: `group_id` as the shards have it. A later run passes the group's inputs over.

    Raises:
        SpecError: no corpus, or no such group in it.
        RunError: the inputs of the other samples are not there, so that they could not be made again; nothing was removed.
    """
    stop = stop or Stop()
    workspace = Workspace(corpus.resolve())
    if not (workspace.private / "plans").is_dir():
        raise SpecError(f"{corpus} is no corpus, or came without its private folder .medadv: only its maker can remove a patient")
    with working(workspace, options, progress, stop) as work:
        plans = generations(workspace.private / "plans")
        concerned = [(plan, shard) for plan, shard in live_lines(plans) if any(s.group == group for s in shard.samples)]
        if not concerned and group not in state.forgotten_groups(workspace):
            raise SpecError(f"{corpus} holds no group {group!r}; give group_id as it stands in the shards")
        state.remember_forgotten(workspace, group)
        if concerned:
            plans.append(_replacement(workspace, plans, [shard for _, shard in concerned], group))
            gone = [s for _, shard in concerned for s in shard.samples if s.group == group]
            work.progress("message", 0, 0, f"{len(gone)} samples in {len(concerned)} shards are removed")
            work.log("forgotten", samples=len(gone), shards=len(concerned))
        remove_retired(workspace, plans)
        problems = recorded(workspace)
        missing, _ = look_through(workspace, plans)
        # Before the slow part: what is on disk and what the manifest says agree again, and the patient is gone from both.
        finish(work, plans, problems)
        make_missing(work, plans, missing, plan_spec(plans[-1]).execution)
        manifest = finish(work, plans, problems) if missing else read_manifest(workspace)
        return Result(workspace.root, manifest, len(missing), 0)


def _replacement(workspace: Workspace, plans: list[FrozenPlan], concerned: list[PlannedShard], group: str) -> FrozenPlan:
    """Freeze the generation that stands for the shards concerned."""
    latest = plans[-1]
    rest = [(shard.shape, sample) for shard in concerned for sample in shard.samples if sample.group != group]
    root = Path(latest.root)
    absent = sum(not all((root / name).is_file() for name in (*s.source.images, *s.source.masks)) for _, s in rest)
    if absent:
        raise RunError(
            f"{absent} of the {len(rest)} other samples in the shards concerned cannot be found under {root}; they would be lost, so "
            "nothing was removed yet. Put them back and try again"
        )
    new = cut(rest, plan_spec(latest).execution, first_index=next_shard(plans))
    return freeze(
        workspace.plan(len(plans)),
        len(plans),
        latest.settings,
        new,
        latest.spec,
        Path(latest.base),
        root,
        first_shard=next_shard(plans),
        replaces=[shard.index for shard in concerned],
    )


def remove_retired(workspace: Workspace, plans: list[FrozenPlan]) -> None:
    """Delete what later generations stand for: files, receipts, lines of the frozen plans, and whatever else names the samples.

    Doing it again does no harm, so a killed `forget` is completed by the next run.
    """
    gone = retired(plans)
    names = {shard_name(index) for index in gone}
    for name in sorted(names):
        # The receipt first: a file without one does not count.
        workspace.receipt(name).unlink(missing_ok=True)
        workspace.shard(name).unlink(missing_ok=True)
    stale = False
    for plan in plans:
        lines = list(plan.lines())
        kept = [shard for shard in lines if shard.index not in gone]
        if len(kept) < len(lines):
            stale = True
            write_file(plan.folder / "shards.jsonl", b"".join(canonical_json(shard.as_dict()) + b"\n" for shard in kept))
            _drop_files(workspace, Path(plan.root), lines, kept, plans)
    if stale:
        # The report shows pictures; it is made again by `medadv report`.
        (workspace.root / "report.html").unlink(missing_ok=True)


def _drop_files(
    workspace: Workspace, root: Path, lines: list[PlannedShard], kept: Collection[PlannedShard], plans: list[FrozenPlan]
) -> None:
    """Take the files that no live shard is made from out of the cache of hashes."""
    used = {name for _, shard in live_lines(plans) for s in shard.samples for name in (*s.source.images, *s.source.masks)}
    named = {name for shard in lines if shard not in kept for s in shard.samples for name in (*s.source.images, *s.source.masks)}
    hashes = FileHashes(workspace.file_cache)
    hashes.forget(root / name for name in named - used)
    write_file(workspace.file_cache, hashes.content())
