"""Remove a patient from a corpus: the shards concerned go at once and are made anew without them, as a new generation."""

from collections.abc import Mapping
from pathlib import Path

from medadv.common.errors import RunError, SpecError
from medadv.common.progress import Progress
from medadv.common.stop import Stop
from medadv.corpus import private
from medadv.corpus.folder import Workspace
from medadv.corpus.manifest import read_manifest
from medadv.corpus.opening import open_corpus
from medadv.corpus.starts import drop_starts, keep_starts
from medadv.corpus.successors import later_corpora
from medadv.plan.cut import cut
from medadv.plan.fitted import fits_of
from medadv.plan.frozen import FrozenPlan, freeze, generations, live_lines, next_shard, refuse_other_meaning
from medadv.plan.model import PlannedSample, PlannedShard, image_lists
from medadv.plan.plan_settings import PlanSettings
from medadv.plan.recipe import planned_execution, reader_of
from medadv.prepare.request import Options
from medadv.run.finish import finish, recorded
from medadv.run.fitting import as_planned, drop_states, fitted_settings
from medadv.run.retire import remove_retired
from medadv.run.run import Result
from medadv.run.shards import look_through, make_missing
from medadv.run.working import Work, working
from medadv.victims.loading import VictimRequest


def forget(corpus: Path, group: str, options: Options, progress: Progress, stop: Stop | None = None) -> Result:
    """Delete what a corpus holds of a group, and make the other samples of its shards again.

    A group that a universal perturbation was fitted to is in every sample that was given it: it is fitted anew, and all is made again.
    Corpora that rest on this one are named, as far as they said so, and stay as they are. Samples that started from another corpus start
    where they did.

    group: `group_id` as the shards have it. A later run passes the group's inputs over.

    Raises:
        SpecError: no corpus, no such group in it, or nothing but it was fitted to.
        RunError: the inputs of the other samples are not there, so that they could not be made again; nothing was removed.
        StoppedError: a signal came while something was fitted anew; nothing was removed yet.
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
        fits = {name: home.samples for name, home in fits_of(plans).items() if group in home.groups}
        concerned = [(plan, shard) for plan, shard in live_lines(plans) if fits or any(s.group == group for s in shard.samples)]
        if not concerned and group not in private.forgotten_groups(workspace):
            raise SpecError(f"{corpus} holds no group {group!r}; give group_id as it stands in the shards")
        rest = [(shard.shape, sample) for _, shard in concerned for sample in shard.samples if sample.group != group]
        if rest:
            refuse_other_meaning(plans, workspace.root)
        others = {name: [sample for sample in shard.samples if sample.group != group] for name, shard in fits.items()}
        if empty := [name for name, left in others.items() if not left]:
            raise SpecError(f"{empty[0]} was fitted to nothing but this group: make another corpus, and delete this one")
        _refuse_loss(plans, [*(sample for _, sample in rest), *(sample for left in others.values() for sample in left)])
        private.remember_forgotten(workspace, group)
        gone = [s for _, shard in concerned for s in shard.samples if s.group == group]
        later = [each.told(workspace.root) for each in later_corpora(workspace, [s.id for s in gone])]
        for text in later:
            work.progress.message(text)
            work.log("message", text=text)
        if concerned:
            if fits:
                work.progress.message(f"{', '.join(fits)} was fitted to it too: fitted anew without it, and every shard is made again")
            keep_starts(workspace, plans, concerned, group)
            settings = _fitted_anew(work, plans, {name: (fits[name].shape, left) for name, left in others.items()})
            plans.append(_replacement(workspace, plans, settings, [shard.index for _, shard in concerned], rest))
            work.progress.message(f"{len(gone)} samples in {len(concerned)} shards are removed")
            work.log("forgotten", samples=len(gone), shards=len(concerned))
        remove_retired(workspace, plans)
        drop_states(workspace)
        problems = recorded(workspace)
        missing, _ = look_through(workspace, plans)
        # Before the slow part: what is on disk and what the manifest says agree again, and the patient is gone from both.
        finish(work, plans, problems)
        make_missing(work, plans, missing, planned_execution(plans[-1]))
        drop_starts(plans, done=True)
        manifest = finish(work, plans, problems) if missing else read_manifest(workspace)
        return Result(workspace.root, manifest, len(missing), 0, later)


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


def _fitted_anew(work: Work, plans: list[FrozenPlan], fits: Mapping[str, tuple[tuple[int, ...], list[PlannedSample]]]) -> PlanSettings:
    """Settings of the generation that is to stand for the others, with what is fitted without the group. fits: shape and samples."""
    latest = plans[-1]
    spec, settings = latest.spec, latest.settings
    request = VictimRequest.of(spec, Path(latest.base), work.options.trust_code, settings.data.x_first)
    planned: dict[str, PlannedShard] = {name: as_planned(left, shape, planned_execution(latest)) for name, (shape, left) in fits.items()}
    folder = work.workspace.plan(len(plans))
    return fitted_settings(
        work.workspace, folder, settings, planned, request, reader_of(latest, spec), work.progress, work.stop, work.progress.message
    )


def _replacement(
    workspace: Workspace,
    plans: list[FrozenPlan],
    settings: PlanSettings,
    concerned: list[int],
    rest: list[tuple[tuple[int, ...], PlannedSample]],
) -> FrozenPlan:
    """Freeze the generation that stands for the shards concerned."""
    latest = plans[-1]
    return freeze(
        workspace.plan(len(plans)),
        len(plans),
        settings,
        cut(rest, planned_execution(latest), first_index=next_shard(plans)),
        latest.spec,
        Path(latest.base),
        Path(latest.root),
        first_shard=next_shard(plans),
        replaces=concerned,
    )
