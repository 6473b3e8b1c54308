"""Remove a patient from a corpus: the shards concerned go at once and are made anew without them, as a new generation."""

from pathlib import Path

from medadv.common.errors import RunError, SpecError
from medadv.common.progress import Progress
from medadv.common.stop import Stop
from medadv.corpus import private
from medadv.corpus.folder import Workspace
from medadv.corpus.manifest import read_manifest
from medadv.corpus.opening import open_corpus
from medadv.plan.cut import cut
from medadv.plan.frozen import FrozenPlan, freeze, generations, live_lines, next_shard, refuse_other_meaning
from medadv.plan.model import PlannedSample, image_lists
from medadv.plan.recipe import planned_execution
from medadv.prepare.request import Options
from medadv.run.finish import finish, recorded
from medadv.run.retire import remove_retired
from medadv.run.run import Result
from medadv.run.shards import look_through, make_missing
from medadv.run.working import working


def forget(corpus: Path, group: str, options: Options, progress: Progress, stop: Stop | None = None) -> Result:
    """Delete what a corpus holds of a group, and make the other samples of its shards again.

    group: `group_id` as the shards have it. A later run passes the group's inputs over.

    Raises:
        SpecError: no corpus, or no such group in it.
        RunError: the inputs of the other samples are not there, so that they could not be made again; nothing was removed.
    """
    stop = stop or Stop()
    workspace = Workspace(corpus.resolve())
    if not workspace.plans.is_dir():
        raise SpecError(f"{corpus} is no corpus, or came without its private folder .medadv: only its maker can remove a patient")
    if workspace.manifest.exists():
        # Shards that are links would be removed, and what they lead to would stay.
        open_corpus(workspace.root)
    with working(workspace, options, progress, stop, forgets=group) as work:
        plans = generations(workspace.plans)
        concerned = [(plan, shard) for plan, shard in live_lines(plans) if any(s.group == group for s in shard.samples)]
        if not concerned and group not in private.forgotten_groups(workspace):
            raise SpecError(f"{corpus} holds no group {group!r}; give group_id as it stands in the shards")
        rest = [(shard.shape, sample) for _, shard in concerned for sample in shard.samples if sample.group != group]
        if rest:
            refuse_other_meaning(plans, workspace.root)
        _refuse_loss(plans, [sample for _, sample in rest])
        private.remember_forgotten(workspace, group)
        if concerned:
            plans.append(_replacement(workspace, plans, [shard.index for _, shard in concerned], rest))
            gone = [s for _, shard in concerned for s in shard.samples if s.group == group]
            work.progress.message(f"{len(gone)} samples in {len(concerned)} shards are removed")
            work.log("forgotten", samples=len(gone), shards=len(concerned))
        remove_retired(workspace, plans)
        problems = recorded(workspace)
        missing, _ = look_through(workspace, plans)
        # Before the slow part: what is on disk and what the manifest says agree again, and the patient is gone from both.
        finish(work, plans, problems)
        make_missing(work, plans, missing, planned_execution(plans[-1]))
        manifest = finish(work, plans, problems) if missing else read_manifest(workspace)
        return Result(workspace.root, manifest, len(missing), 0)


def _refuse_loss(plans: list[FrozenPlan], others: list[PlannedSample]) -> None:
    """The other samples of the shards concerned are made again from their sources: without those they would be lost."""
    root = Path(plans[-1].root)
    # Slices share the list of their series, which is looked at once.
    whole = {key: all((root / name).is_file() for name in names) for key, names in image_lists(others).items()}
    absent = sum(not whole[id(s.source.images)] or not all((root / name).is_file() for name in s.source.masks) for s in others)
    if absent:
        raise RunError(
            f"{absent} of the {len(others)} other samples in the shards concerned cannot be found under {root}; they would be lost, so "
            "nothing was removed yet. Put them back and try again"
        )


def _replacement(
    workspace: Workspace, plans: list[FrozenPlan], concerned: list[int], rest: list[tuple[tuple[int, ...], PlannedSample]]
) -> FrozenPlan:
    """Freeze the generation that stands for the shards concerned."""
    latest = plans[-1]
    return freeze(
        workspace.plan(len(plans)),
        len(plans),
        latest.settings,
        cut(rest, planned_execution(latest), first_index=next_shard(plans)),
        latest.spec,
        Path(latest.base),
        Path(latest.root),
        first_shard=next_shard(plans),
        replaces=concerned,
    )
