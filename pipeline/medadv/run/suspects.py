"""Find the samples that kill a worker: each is tried alone in a process of its own. For diagnosis only; nothing it computes is kept."""

import json
import subprocess
import sys
from contextlib import suppress
from dataclasses import replace
from pathlib import Path

from medadv.batches.attacking import rehearse
from medadv.batches.equipment import equip
from medadv.batches.loading import batches
from medadv.plan.model import PlannedShard
from medadv.run.job import Diagnosis, Job


def diagnose(job: Job) -> Diagnosis:
    """Which samples of a job's shard, tried alone, killed their process twice."""
    waiting = [sample.id for sample in job.shard.samples if sample.id not in job.excluded]
    poison: list[str] = []
    blamed: str | None = None
    while waiting:
        survived = _try(job, waiting)
        waiting = waiting[len(survived) :]
        if not waiting:
            break
        # The process died on the first one that it did not report.
        if waiting[0] == blamed:
            poison.append(waiting.pop(0))
        else:
            blamed = waiting[0]
    return Diagnosis(tuple(poison))


def _try(job: Job, samples: list[str]) -> list[str]:
    """The samples that a process got through before it died, in order."""
    where = {"corpus": job.corpus, "generation": job.generation, "trust_code": job.trust_code}
    request = json.dumps({**where, "shard": job.shard.line().decode(), "samples": samples})
    # What a process says while it dies is nothing that the user could act on; the run says which samples killed it.
    done = subprocess.run(
        [sys.executable, "-m", "medadv.run.suspects"],
        input=request,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
        check=False,
    )
    return [line for line in done.stdout.split() if line in samples]


def main() -> None:
    """The process: reads a shard and sample ids from standard input, and prints each id that it survived."""
    request = json.load(sys.stdin)
    shard = PlannedShard.of_line(request["shard"])
    equipment = equip(Path(request["corpus"]), request["generation"], shard.shape, request["trust_code"])
    planned = {sample.id: sample for sample in shard.samples}
    for name in request["samples"]:
        # An error that Python can tell of is no death: it is dealt with where the shard is made.
        with suppress(Exception):
            alone = replace(shard, samples=(planned[name],))
            for batch in batches(alone, equipment.reader, equipment.victim.scored):
                rehearse(batch, equipment.recipe, equipment.victim)
        print(name, flush=True)


if __name__ == "__main__":
    main()
