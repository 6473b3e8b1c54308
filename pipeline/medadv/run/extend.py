"""How does a corpus grow? What is new is frozen as one more generation."""

from pathlib import Path

from medadv.common.files import write_file
from medadv.common.hashing import canonical_json
from medadv.common.log import Log
from medadv.common.progress import Progress
from medadv.common.record import plain
from medadv.common.stop import Stop
from medadv.corpus import private
from medadv.corpus.successors import tell_predecessor
from medadv.corpus.universal import publish_shared
from medadv.datasets.reader import Reader
from medadv.plan.frozen import FrozenPlan, freeze, next_shard
from medadv.prepare.prepare import Prepared
from medadv.run.fitting import as_planned, drop_states, fitted_settings


def extended(prepared: Prepared, log: Log, progress: Progress, stop: Stop) -> list[FrozenPlan]:
    """The plans of the corpus, with what is new frozen as one more generation; the first one fits what all samples share before.

    Raises StoppedError: a signal came while that was fitted.
    """
    workspace, plans = prepared.workspace, list(prepared.plans)

    def tell(text: str) -> None:
        prepared.notes.append(text)
        progress.message(text)

    private.remember_predecessors(workspace, prepared.predecessors)
    for folder in prepared.predecessors.values():
        if untold := tell_predecessor(Path(folder), workspace.root):
            tell(untold)
    if prepared.new:
        generation = len(plans)
        settings, spec, shape = prepared.settings, prepared.spec, prepared.new[0].shape
        execution = spec.execution.model_copy(update={"batch_size": settings.execution.batch_size})
        fits = {name: as_planned(samples, shape, execution) for name, samples in prepared.fits.items()}
        reader = Reader(prepared.survey.root, spec.data, spec.preprocess, spec.victim.head == "sigmoid")

        settings = fitted_settings(
            workspace, workspace.plan(generation), settings, fits, prepared.request, reader, progress, stop, tell
        )
        plans.append(
            freeze(
                workspace.plan(generation),
                generation,
                settings,
                prepared.new,
                spec,
                prepared.base,
                prepared.survey.root,
                first_shard=next_shard(plans),
                tuning=prepared.tuning,
            )
        )
        log("planned", generation=generation, shards=len(prepared.new), samples=plans[-1].samples)
        for record in prepared.tuning:
            log("profile", **plain(record))
    publish_shared(workspace, plans)
    drop_states(workspace)
    write_file(workspace.file_cache, prepared.hashes.content())
    if prepared.survey.aside:
        write_file(workspace.aside, canonical_json(prepared.survey.aside))
    return plans
