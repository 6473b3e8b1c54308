"""What is done about a shard on which workers died? Its samples are tried one by one, and those that kill are left out.

A worker notes in `begun/` that it begins a shard, and takes the note back at the end (run/journal.py); what is left counts its deaths. Its
nanny starts it again, and Dask gives the shard to whoever is free (run/cluster.py). After `Job.tolerated` deaths, three unless told
otherwise, nobody makes the shard as it is (run/worker.py raises SuspectedError): run/drive.py has it diagnosed, every sample alone in a
process of its own (run/suspects.py). What kills twice is remembered and quarantined as `kills-worker`, its place in the batch stays empty,
and the shard is made without it. Where each sample survives alone the shard is tried one last time, then the run ends with exit code 4.
"""

from dataclasses import replace

from medadv.common.errors import RunError
from medadv.common.failures import MEMORY_ADVICE
from medadv.corpus import private
from medadv.corpus.folder import Workspace
from medadv.run import journal
from medadv.run.job import Diagnosis, Job
from medadv.run.lock import exclusive
from medadv.run.watch import Watch

REMEMBERING = 1
"""Byte of the guard that is locked; another than that of taking the lock."""


def suspect(job: Job, deaths: int, watch: Watch) -> None:
    """Say that a shard's samples are to be tried one by one. RunError when that was done, and none of them is to blame."""
    if job.tolerated == 1:
        raise RunError(f"workers keep dying on {job.name}, and no sample of it kills one alone: most likely memory; {MEMORY_ADVICE}")
    watch.message(f"{deaths} workers died on {job.name}: trying its samples one by one")
    watch.log("deaths", shard=job.name, deaths=deaths)


def without(job: Job, diagnosis: Diagnosis, workspace: Workspace, watch: Watch) -> Job:
    """The job to try next: without the samples that kill, which are remembered, or unchanged one last time."""
    poison = diagnosis.poison
    journal.end(workspace, job.name)
    watch.log("diagnosed", shard=job.name, poison=list(poison))
    if not poison:
        return replace(job, tolerated=1)
    watch.message(f"{job.name}: {len(poison)} samples kill a worker alone; they are quarantined")
    # Parts of a job array remember beside each other, each adding to what it read.
    with exclusive(workspace.lock.with_name(f"{workspace.lock.name}.guard"), REMEMBERING):
        private.remember_poison(workspace, poison)
    return replace(job, excluded=(*job.excluded, *poison))
