"""Hold a corpus against its manifest and receipts; name what is wrong. Any damage becomes a finding, never a traceback."""

import heapq
import multiprocessing
import os
from collections.abc import Iterable, Iterator
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from itertools import islice
from pathlib import Path

from medadv.common.errors import MedadvError
from medadv.common.progress import SILENT, Progress
from medadv.corpus.manifest import Manifest, ShardEntry
from medadv.corpus.opening import NO_FILE, OWN, is_link, led_away, published
from medadv.evidence.check_manifest import check_croissant, check_files, check_quarantine, check_totals, first_crossing, load_manifest
from medadv.evidence.check_numbers import check_numbers
from medadv.evidence.check_shard import Bring, ShardReport, checked, lost
from medadv.evidence.finding import Finding
from medadv.evidence.universal import check_shared
from medadv.store.codecs import require_codec

AHEAD = 4
"""Shards handed to each process in advance."""
KILLED = "was not checked: a process of the check was killed; see that there is memory enough"
WORTH_A_POOL = 64 << 20
"""Bytes of shards from which several processes are faster than one."""


def verify(root: Path, progress: Progress = SILENT, workers: int | None = None, links: bool = False) -> list[str]:
    """`find_damage` as lines of text, empty when the corpus is whole."""
    return [str(finding) for finding in find_damage(root, progress, workers, links)]


def find_damage(
    root: Path,
    progress: Progress = SILENT,
    workers: int | None = None,
    links: bool = False,
    *,
    growing: bool = False,
    bring: Bring | None = None,
) -> list[Finding]:
    """Everything that is wrong with a corpus.

    Shards are checked in parallel and piece by piece, so that memory does not depend on the size of a volume; of the corpus it holds what
    the metrics need: labels, answers and scores, but no masks.

    Args:
        root: the corpus.
        progress: told of shards done and in all.
        workers: processes; None takes one per core where the corpus is large enough, else none besides this one.
        growing: a run is at work, and shards that the manifest does not name yet are passed over.
        links: follow files of the corpus that are symbolic links, and tell where they lead.
        bring: has a shard's file in its place while it is checked, where the corpus itself lies elsewhere; it can be pickled.

    Raises:
        IntegrityError: there is no manifest.
        MedadvError: what `bring` raises.
        SpecError: the corpus needs hdf5plugin.
    """
    if led := _led_away(root, OWN, links, progress):
        return led
    manifest, findings = load_manifest(root)
    if manifest is None:
        return findings
    if led := _led_away(root, published(manifest), links, progress):
        # Nothing is read through them.
        return [*findings, *led]
    if not findings:
        # Without its codec no shard can be read, which would look like damage. A manifest that was changed may name any codec.
        require_codec(manifest.execution.codec)
    findings += check_files(root, manifest, growing)
    findings += check_quarantine(root, manifest)
    findings += check_shared(root, manifest)
    entries = manifest.shards
    reports: dict[int, ShardReport] = {}
    for number, report in _reports(root, manifest, _processes(workers, entries), bring):
        reports[number] = report
        progress("verify", len(reports), len(entries))
    ordered = [reports[number] for number in range(len(entries))]
    findings += [finding for report in ordered for finding in report.findings]
    readable = [report for report in ordered if report.ids]
    if len(readable) == len(ordered):
        # Sums say nothing where a receipt, already named, could not be read.
        findings += check_totals(root, manifest, sum(report.ids for report in ordered))
        findings += _repeated(root, entries, ordered)
        small = [report.small for report in ordered if report.small is not None]
        if len(small) == len(ordered):
            findings += check_numbers(root, manifest, small)
    # Last: what is wrong elsewhere tells more than that the metadata does not follow from it.
    return [*findings, *check_croissant(root, manifest)]


def _led_away(root: Path, names: Iterable[str], links: bool, progress: Progress) -> list[Finding]:
    """Links where none are followed, and what is no file at all."""
    found = []
    for name, target in led_away(root, names):
        if target is None:
            found.append(Finding(name, NO_FILE))
        elif not links:
            found.append(Finding(name, is_link(target)))
        else:
            progress.message(f"{name} leads to {target}")
    return found


def _processes(workers: int | None, entries: list[ShardEntry]) -> int:
    if workers is None:
        workers = len(os.sched_getaffinity(0)) if sum(entry.bytes for entry in entries) >= WORTH_A_POOL else 1
    return max(1, min(workers, len(entries)))


def _reports(root: Path, manifest: Manifest, workers: int, bring: Bring | None) -> Iterator[tuple[int, ShardReport]]:
    entries = manifest.shards
    # A worker needs little of the manifest: the list of shards may be long.
    facts = manifest.model_copy(update={"shards": []})
    if workers == 1:
        for number, entry in enumerate(entries):
            yield number, checked(root, entry, facts, bring)
        return
    # Spawned, not forked: this process may run threads.
    with ProcessPoolExecutor(workers, mp_context=multiprocessing.get_context("spawn")) as pool:
        waiting = iter(enumerate(entries))
        running: dict[Future[ShardReport], int] = {}
        alive = True
        while alive:
            for number, entry in islice(waiting, AHEAD * workers - len(running)):
                running[pool.submit(checked, root, entry, facts, bring)] = number
            if not running:
                return
            done, _ = wait(running, return_when=FIRST_COMPLETED)
            for future in done:
                number = running.pop(future)
                if isinstance(error := future.exception(), MedadvError):
                    raise error
                alive = alive and error is None
                yield number, future.result() if error is None else lost(entries[number], KILLED)
        for number, entry in [*((number, entries[number]) for number in running.values()), *waiting]:
            yield number, lost(entry, KILLED)


def _repeated(root: Path, entries: list[ShardEntry], reports: list[ShardReport]) -> Iterator[Finding]:
    """Sample ids that stand in two shards. Planned shards are sorted, so runs of them are merged instead of holding every id."""
    runs: list[list[int]] = []
    for number, report in enumerate(reports):
        follows = runs and report.rising and reports[runs[-1][-1]].rising and reports[runs[-1][-1]].last < report.first
        if follows:
            runs[-1].append(number)
        else:
            runs.append([number])
    if len(runs) > 1 and (sample := first_crossing(heapq.merge(*(_ids(root, [entries[n] for n in run]) for run in runs)))):
        yield Finding("manifest.json", "stands in the corpus more than once", sample)


def _ids(root: Path, entries: Iterable[ShardEntry]) -> Iterator[str]:
    for entry in entries:
        receipt, _ = entry.receipt(root)
        yield from sorted(record.id for record in (receipt.records if receipt else ()))
