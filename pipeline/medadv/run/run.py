"""Make a corpus: survey the inputs, freeze the plan, make the shards that are missing, write the manifest. Running again resumes."""

from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from medadv.common.errors import ExitCode, NothingFoundError
from medadv.common.progress import Progress
from medadv.common.stop import Stop
from medadv.corpus import private
from medadv.corpus.manifest import Manifest, read_manifest
from medadv.corpus.quarantine import read_quarantine
from medadv.corpus.starts import drop_starts
from medadv.plan.frozen import FrozenPlan, generations, meaning_of, refuse_other_meaning
from medadv.plan.meaning import MEANING_VERSION
from medadv.prepare.describe import describe
from medadv.prepare.prepare import prepare, refuse_more_of_another_meaning
from medadv.prepare.request import Options, asked, locate
from medadv.run import cluster
from medadv.run.extend import extended
from medadv.run.finish import finish, remember_quarantine, up_to_date
from medadv.run.retire import remove_retired, tell_not_forgotten
from medadv.run.shards import look_through, make_missing
from medadv.run.working import Work, working
from medadv.spec.run_spec import RunSpec

__all__ = ["Options", "Progress", "Result", "describe", "run"]


@dataclass(frozen=True)
class Result:
    """What a run made or found."""

    corpus: Path
    manifest: Manifest
    new_shards: int
    newly_quarantined: int
    notes: list[str] = field(default_factory=list)
    """What planning showed: what was passed over, and warnings."""

    @property
    def exit_code(self) -> ExitCode:
        """Whether this run quarantined inputs."""
        return ExitCode.QUARANTINED if self.newly_quarantined else ExitCode.DONE

    def as_dict(self) -> Any:
        """The machine-readable result."""
        return {
            "corpus": str(self.corpus),
            "samples": self.manifest.samples,
            "quarantined": self.manifest.quarantined,
            "content_root": self.manifest.content_root,
            "new_shards": self.new_shards,
            "notes": self.notes,
            "attacks": {name: metrics.model_dump(exclude={"all"}) for name, metrics in self.manifest.metrics.items()},
            "baseline": self.manifest.baseline and self.manifest.baseline.model_dump(),
        }


def run(spec_path: Path, options: Options, progress: Progress, stop: Stop | None = None) -> Result:
    """Make or complete the corpus of a spec.

    Raises:
        SpecError: wrong spec, settings other than the corpus was made with, or a scheduler that everybody can use.
        NothingFoundError: no sample of a new corpus can be used; nothing is left of it.
        LockedError: another run holds the corpus.
        StoppedError: `stop` was signalled.
        RunError, IntegrityError: as their names say; every finished shard is kept.
    """
    stop = stop or Stop()
    spec, told = asked(spec_path, options)
    if options.scheduler.is_given:
        cluster.given(options.scheduler)
    workspace = locate(spec, spec_path, options.out)
    with working(workspace, options, progress, stop) as work:
        key = private.ensure_key(workspace)
        # A killed `forget` is completed before anything else.
        earlier_plans = generations(workspace.plans)
        remove_retired(workspace, earlier_plans)
        tell_not_forgotten(workspace, work.hold, earlier_plans, work.log, progress)
        if meaning_of(earlier_plans) != MEANING_VERSION:
            return _as_it_is(work, spec, spec_path.resolve().parent, earlier_plans)
        prepared = prepare(spec, spec_path.resolve().parent, workspace, options, progress, stop, told=told)
        stop.check("nothing was changed")
        plans = extended(prepared, work.log, progress, stop)
        problems, paths = prepared.problems(key)
        missing, left_out = look_through(workspace, plans)
        if not missing:
            drop_starts(plans, done=True)
        if gone := prepared.gone:
            counts = ", ".join(f"{count} {how}" for how, count in sorted(Counter(gone.values()).items()))
            work.progress.message(f"inputs since they were planned: {counts}")
        if not missing and up_to_date(workspace, plans, problems, left_out):
            work.log("finished", new_shards=0, nothing_new=True)
            return Result(workspace.root, read_manifest(workspace), 0, 0, prepared.notes)
        make_missing(work, plans, missing, spec.execution)
        drop_starts(plans, done=True)
        manifest = finish(work, plans, problems)
        if not manifest.samples and not prepared.plans:
            first = read_quarantine(workspace)[0]
            raise NothingFoundError(f"no usable sample ({manifest.quarantined} cannot be used: {first.message} {first.advice})")
        newly = remember_quarantine(workspace, paths)
        work.log("finished", new_shards=len(missing), samples=manifest.samples, content_root=manifest.content_root)
        return Result(workspace.root, manifest, len(missing), newly, prepared.notes)


def _as_it_is(work: Work, spec: RunSpec, base: Path, plans: list[FrozenPlan]) -> Result:
    """A whole corpus of another meaning version has nothing new. SpecError where it would have to be finished or to grow."""
    workspace = work.workspace
    missing, _ = look_through(workspace, plans)
    if missing or not workspace.manifest.exists() or read_manifest(workspace).run.status != "complete":
        refuse_other_meaning(plans, workspace.root)
    refuse_more_of_another_meaning(spec, base, workspace, plans)
    note = f"made with meaning version {meaning_of(plans)}, now {MEANING_VERSION}: the corpus stays as it is"
    work.progress.message(note)
    work.log("finished", new_shards=0, nothing_new=True)
    return Result(workspace.root, read_manifest(workspace), 0, 0, [note])
