"""What a worker process does with a shard of a frozen plan. Everything it needs lies in the corpus folder; no pixels travel."""

import threading
import time
from collections.abc import Callable
from pathlib import Path

from medadv.batches.equipment import equip
from medadv.common.failures import explain, passing
from medadv.common.files import writing_in
from medadv.corpus.folder import Workspace
from medadv.corpus.measuring import attacked
from medadv.corpus.receipt import Receipt, committed
from medadv.run import journal
from medadv.run.holder import state_of
from medadv.run.job import Job, NotWantedError, ShardMade, SuspectedError
from medadv.run.lock import writing_folder
from medadv.run.shard import make_shard
from medadv.store.reader import read_small

TRIES = 3
"""How often a shard is begun when disks or networks fail for a moment; the waits double from one second."""
# A worker may have several threads, but a victim serves one batch at a time and the thread count is the process's.
_one_at_a_time = threading.Lock()


def make(job: Job) -> ShardMade:
    """Make one shard; returns what the run shows of it.

    Raises:
        NotWantedError: the run stops.
        SuspectedError: too many workers died on this shard before.
        MedadvError: what cannot be helped by trying again, as one line.
    """
    with _one_at_a_time:
        began = time.monotonic()
        workspace = Workspace(Path(job.corpus))
        _proceed(job, begin=True)
        deaths = journal.begin(workspace, job.name, job.diary or job.token)
        if deaths >= job.tolerated:
            journal.end(workspace, job.name)
            raise SuspectedError(job.name, deaths)
        try:
            with writing_in(writing_folder(Path(job.lock), job.token)):
                receipt = _patiently(lambda: _make(workspace, job))
        except (OSError, MemoryError, RuntimeError) as error:
            if isinstance(error, FileNotFoundError):
                # It may be the folder to write through that is gone, and with it the lock.
                _proceed(job)
            raise explain(error, workspace.root) or error from None
        finally:
            journal.end(workspace, job.name)
        attackable, successes = _counted(workspace, job, receipt)
        seconds = round(time.monotonic() - began, 3)
        return ShardMade(receipt.shard, receipt.samples, len(receipt.quarantined), attackable, successes, seconds)


def _counted(workspace: Workspace, job: Job, receipt: Receipt) -> tuple[dict[str, int], dict[str, int]]:
    """By attack: samples that could be attacked, and successes among them."""
    if not receipt.records:
        return {}, {}
    equipment = equip(workspace.root, job.generation, job.shard.shape, job.trust_code)
    arrays = read_small(workspace.shard(job.name))
    victim, victims, attacks = equipment.settings, equipment.victims, equipment.recipe.attacks
    limits = {name: victims.get(attack.victim or "", victim).score_threshold for name, attack in attacks.items()}
    counts = {name: attacked(arrays, name, equipment.victim.task, limits[name]) for name in receipt.records[0].attacks}
    return {name: able for name, (able, _) in counts.items()}, {name: count for name, (_, count) in counts.items()}


def _make(workspace: Workspace, job: Job) -> Receipt:
    equipment = equip(workspace.root, job.generation, job.shard.shape, job.trust_code)
    earlier = committed(workspace, job.name, equipment.recipe.plan)
    if earlier is not None:
        return earlier
    return make_shard(
        workspace,
        job.shard,
        equipment.recipe,
        equipment.reader,
        equipment.victim,
        excluded=job.excluded,
        hashes=equipment.hashes,
        proceed=lambda: _proceed(job),
    )


def _proceed(job: Job, *, begin: bool = False) -> None:
    state = state_of(Path(job.lock), job.token)
    if state is None or state == "halting" or (begin and state == "draining"):
        raise NotWantedError(job.name)


def _patiently(make_it: Callable[[], Receipt]) -> Receipt:
    for attempt in range(TRIES - 1):
        try:
            return make_it()
        except OSError as error:
            if not passing(error):
                raise
            time.sleep(2.0**attempt)
    return make_it()
