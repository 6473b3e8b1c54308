"""How does a corpus grow? What is new is frozen as one more generation."""

from medadv.common.files import write_file
from medadv.common.hashing import canonical_json
from medadv.common.log import Log
from medadv.common.record import plain
from medadv.plan.frozen import FrozenPlan, freeze, next_shard
from medadv.prepare.prepare import Prepared


def extended(prepared: Prepared, log: Log) -> list[FrozenPlan]:
    """The plans of the corpus, with what is new frozen as one more generation."""
    workspace, plans = prepared.workspace, list(prepared.plans)
    if prepared.new:
        generation = len(plans)
        plans.append(
            freeze(
                workspace.plan(generation),
                generation,
                prepared.settings,
                prepared.new,
                prepared.spec,
                prepared.base,
                prepared.survey.root,
                first_shard=next_shard(plans),
                tuning=prepared.tuning,
            )
        )
        log("planned", generation=generation, shards=len(prepared.new), samples=plans[-1].samples)
        for record in prepared.tuning:
            log("profile", **plain(record))
    write_file(workspace.file_cache, prepared.hashes.content())
    if prepared.survey.aside:
        write_file(workspace.aside, canonical_json(prepared.survey.aside))
    return plans
