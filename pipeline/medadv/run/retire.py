"""Delete shards that a later generation stands for, and every private trace of the samples that only they held."""

from collections.abc import Sequence
from pathlib import Path

from medadv.common.files import remove, write_file
from medadv.common.log import Log
from medadv.common.progress import Progress
from medadv.corpus.folder import Workspace, shard_name
from medadv.corpus.private import forgotten_groups
from medadv.corpus.starts import drop_starts
from medadv.corpus.universal import publish_shared
from medadv.datasets.file_hashes import FileHashes
from medadv.plan.fitted import drop, fits_of, outlived
from medadv.plan.frozen import FrozenPlan, live_lines, retired
from medadv.plan.model import PlannedShard
from medadv.run.lock import Hold


def remove_retired(workspace: Workspace, plans: Sequence[FrozenPlan]) -> None:
    """Delete what later generations stand for: files, receipts, lines of the frozen plans, and whatever else names the samples.

    Doing it again does no harm, so a killed `forget` is completed by the next run.
    """
    gone = retired(plans)
    if not gone:
        return
    publish_shared(workspace, plans)
    for attack, homes in outlived(plans).items():
        for home in homes:
            _drop_files(workspace, Path(plans[-1].root), [home.samples], plans)
            drop(home.folder, attack)
    names = {shard_name(index) for index in gone}
    for name in sorted(names):
        # The receipt first: a file without one does not count.
        remove(workspace.receipt(name))
        remove(workspace.shard(name))
    drop_starts(plans, done=False)
    stale = False
    for plan in plans:
        lines = list(plan.lines())
        kept = [shard for shard in lines if shard.index not in gone]
        if len(kept) < len(lines):
            stale = True
            write_file(plan.folder / "shards.jsonl", b"".join(shard.line() + b"\n" for shard in kept))
            _drop_files(workspace, Path(plan.root), [shard for shard in lines if shard.index in gone], plans)
    if stale:
        # The report shows pictures; it is made again by `medadv report`.
        remove(workspace.root / "report.html")


def not_forgotten(workspace: Workspace, hold: Hold, plans: Sequence[FrozenPlan]) -> list[str]:
    """Groups that a `forget` was to remove, and that the corpus still holds: it was killed before it had frozen what stands for them."""
    before = hold.before.group if hold.before is not None else None
    meant = {*forgotten_groups(workspace), *([before] if before else [])}
    if not meant:
        return []
    held = {sample.group for _, shard in live_lines(plans) for sample in shard.samples}
    return sorted(meant & held.union(*(home.groups for home in fits_of(plans).values())))


def tell_not_forgotten(workspace: Workspace, hold: Hold, plans: Sequence[FrozenPlan], log: Log, progress: Progress) -> None:
    """Say which groups are still there though a `forget` was begun.  hold: of the corpus."""
    for group in not_forgotten(workspace, hold, plans):
        text = f"`medadv forget` was begun for group {group} and is not done: the corpus still holds it; run it again"
        log("message", text=text)
        progress.message(text)


def _drop_files(workspace: Workspace, root: Path, gone: Sequence[PlannedShard], plans: Sequence[FrozenPlan]) -> None:
    """Take the files that no live shard is made from out of the cache of hashes."""
    used = {name for _, shard in live_lines(plans) for name in shard.files}
    used |= {name for home in fits_of(plans).values() for name in home.samples.files}
    named = {name for shard in gone for name in shard.files}
    hashes = FileHashes(workspace.file_cache)
    hashes.forget(root / name for name in named - used)
    write_file(workspace.file_cache, hashes.content())
