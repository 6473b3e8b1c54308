"""One part of a job array: every N-th shard of a frozen plan, made in this process, without Dask. Its verb without a part merges them."""

import os
import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

from medadv.common.errors import ExitCode, LockedError, RunError, SpecError
from medadv.common.failures import explain
from medadv.common.files import writing_in
from medadv.common.log import Log
from medadv.common.progress import Progress
from medadv.common.stop import Stop
from medadv.corpus import private
from medadv.corpus.folder import Workspace, shard_name
from medadv.corpus.receipt import committed
from medadv.plan.frozen import FrozenPlan, differences, generations, live_lines, refuse_other_meaning, whole
from medadv.prepare.prepare import Prepared, prepare
from medadv.prepare.request import Options, asked, locate
from medadv.run.deaths import suspect, without
from medadv.run.drive import HALT_S, TICK_S
from medadv.run.extend import extended
from medadv.run.holder import alive_holder, describe_holder, holds, read_lock
from medadv.run.job import Job, NotWantedError, SuspectedError
from medadv.run.lock import Hold, held
from medadv.run.retire import tell_not_forgotten
from medadv.run.suspects import diagnose
from medadv.run.watch import Watch
from medadv.run.worker import make
from medadv.run.working import working
from medadv.spec.run_spec import RunSpec

PLANNING_S = 3600.0
"""How long a part waits for another one that is writing the plan."""
WAIT_S = 0.5
ANY_SETTING = {"output", "execution.workers"}
"""What a part's spec may say otherwise than the one the plan was made from."""


@dataclass(frozen=True)
class PartResult:
    """What a part made."""

    corpus: Path
    part: str
    shards: int
    samples: int
    quarantined: int
    notes: list[str]
    """What planning showed, where this part planned."""
    command: str
    """The verb that makes parts of this corpus, and merges them: `medadv run`, say."""

    @property
    def exit_code(self) -> ExitCode:
        """Whether samples of this part were quarantined."""
        return ExitCode.QUARANTINED if self.quarantined else ExitCode.DONE

    @property
    def text(self) -> str:
        """One line."""
        what = f"{self.shards} new shards, {self.samples} samples, {self.quarantined} quarantined" if self.shards else "nothing new"
        return f"{self.corpus}: part {self.part}: {what}; `{self.command}` without --part merges the parts"

    def as_dict(self) -> dict[str, str | int | list[str]]:
        """The machine-readable result."""
        return {
            "corpus": str(self.corpus),
            "part": self.part,
            "new_shards": self.shards,
            "samples": self.samples,
            "quarantined": self.quarantined,
            "notes": self.notes,
        }


def freeze_plan(spec_path: Path, options: Options, progress: Progress, stop: Stop) -> Prepared:
    """Write down the plan of what is new, and make nothing: parts and runs work on it. Gives what it was made from, fitted."""
    spec, told = asked(spec_path, options)
    workspace = locate(spec, spec_path, options.out)
    with working(workspace, options, progress, stop) as work:
        private.ensure_key(workspace)
        tell_not_forgotten(workspace, work.hold, generations(workspace.plans), work.log, progress)
        prepared = prepare(spec, spec_path.resolve().parent, workspace, options, progress, stop, told=told)
        extended(prepared, work.log, progress, stop)
    return replace(prepared, fits={})


def run_part(spec_path: Path, part: str, options: Options, progress: Progress, stop: Stop) -> PartResult:
    """Make the shards of a part. The first part freezes the plan when there is none; later inputs wait for `plan --freeze` or a run.

    Raises:
        SpecError: `part` is no I/N, or the spec differs from the plan's.
        LockedError: a run, the same part, or a part of another N is at work.
        StoppedError: a signal came; finished shards are kept.
    """
    index, count = _parsed(part)
    spec, told = asked(spec_path, options)
    workspace = locate(spec, spec_path, options.out)
    try:
        with workspace.made(), ExitStack() as stack:
            with ExitStack() as planning:
                planner = _hold_for_planning(planning, workspace)
                planning.enter_context(writing_in(planner.folder))
                planning.enter_context(private.taken_back(workspace))
                workspace.parts.mkdir(exist_ok=True)
                _refuse_other_cut(workspace, count)
                plans, notes = generations(workspace.plans), []
                log = Log(workspace.log, part=part)
                tell_not_forgotten(workspace, planner, plans, log, progress)
                if plans:
                    _refuse_other_spec(plans[-1], spec, workspace.root)
                else:
                    private.ensure_key(workspace)
                    prepared = prepare(spec, spec_path.resolve().parent, workspace, options, progress, stop, told=told)
                    stop.check("nothing was changed")
                    plans, notes = extended(prepared, log, progress, stop), prepared.notes
                hold = stack.enter_context(held(workspace.parts / f"{index}-of-{count}.lock", "part"))
            stack.enter_context(writing_in(hold.folder))
            stack.enter_context(_obeying(hold, stop, options.grace_s))
            mine = [
                (plan, shard)
                for plan, shard in live_lines(plans)
                if shard.index % count == index - 1 and committed(workspace, shard_name(shard.index), plan.hash) is None
            ]
            if mine:
                refuse_other_meaning(plans, workspace.root)
            watch = Watch(progress, Log(workspace.log, run=hold.token, part=part), len(mine), sum(len(s.samples) for _, s in mine))
            watch.log("start", command=options.command)
            known = set(private.poison(workspace))
            for plan, shard in mine:
                if stop.signal is not None:
                    break
                excluded = known & {sample.id for sample in shard.samples}
                job = Job(
                    str(workspace.root),
                    plan.generation,
                    shard,
                    options.trust_code,
                    str(hold.path),
                    hold.token,
                    tuple(sorted(excluded)),
                    diary="part",
                )
                _make(job, workspace, watch)
            stop.check(f"{watch.done} of {len(mine)} shards of this part were made and are kept; run again to go on")
            watch.log("finished", shards=watch.done, samples=watch.made_samples)
            return PartResult(workspace.root, part, watch.done, watch.made_samples, watch.quarantined, notes, options.command)
    except (OSError, MemoryError, RuntimeError) as error:
        raise explain(error, workspace.root) or error from None


def _make(job: Job, workspace: Workspace, watch: Watch) -> None:
    """Make a shard here; one on which this process died again and again is looked at sample by sample first."""
    try:
        try:
            made = make(job)
        except SuspectedError as error:
            suspect(job, error.deaths, watch)
            made = make(without(job, diagnose(job), workspace, watch))
        watch.made(made)
    except NotWantedError:
        # The signal that ended the grace time is answered by the caller; otherwise the lock is lost.
        if not holds(Path(job.lock), job.token):
            raise RunError("this part was taken over by another process; every finished shard is kept") from None


def _parsed(part: str) -> tuple[int, int]:
    index, slash, count = part.partition("/")
    if not slash or not index.isdigit() or not count.isdigit() or not 1 <= int(index) <= int(count):
        raise SpecError(f"--part {part}: write I/N with I from 1 to N, such as --part 3/16")
    return int(index), int(count)


def _hold_for_planning(stack: ExitStack, workspace: Workspace) -> Hold:
    """Hold the corpus for a moment. Another part that plans is waited for; a run is not."""
    deadline = time.monotonic() + PLANNING_S
    while True:
        try:
            return stack.enter_context(held(workspace.lock, "planning"))
        except LockedError:
            holder = read_lock(workspace.lock)
            if (holder is not None and holder.purpose != "planning") or time.monotonic() > deadline:
                raise
        time.sleep(WAIT_S)


def _refuse_other_cut(workspace: Workspace, count: int) -> None:
    """Parts of another N would make the same shards at the same time."""
    for path in workspace.parts.glob("*.lock"):
        holder = alive_holder(path)
        if holder and not path.stem.endswith(f"-of-{count}"):
            raise LockedError(f"part {path.stem.replace('-of-', '/')} is at work on this corpus: {describe_holder(holder)}")


def _refuse_other_spec(plan: FrozenPlan, spec: RunSpec, corpus: Path) -> None:
    changed = [line for line in differences(whole(plan.spec), whole(spec)) if line.partition(":")[0] not in ANY_SETTING]
    if changed:
        raise SpecError(
            f"{corpus} was planned with other settings: {'; '.join(changed[:5])}. "
            "Make another corpus with --out DIR, or put the settings back"
        )


@contextmanager
def _obeying(hold: Hold, stop: Stop, grace_s: float) -> Iterator[None]:
    """Answer signals while shards are made: grace time, then the end of the batch, then the end of the process."""
    ended = threading.Event()

    def watch() -> None:
        while stop.signal is None:
            if ended.wait(TICK_S):
                return
        hold.tell("draining")
        deadline = time.monotonic() + grace_s
        while time.monotonic() < deadline and stop.count < 2:
            if ended.wait(TICK_S):
                return
        hold.tell("halting")
        if not ended.wait(HALT_S):
            # In the middle of a long batch. Nothing is half-written under a final name, so the process may end anywhere.
            os._exit(stop.error("").exit_code)

    watcher = threading.Thread(target=watch, daemon=True)
    watcher.start()
    try:
        yield
    finally:
        ended.set()
        watcher.join()
