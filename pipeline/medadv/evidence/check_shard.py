"""One shard against the manifest: hashes of its files first; only files with the right hash are opened in this process.

A damaged file is never handed to HDF5 here, which may crash on it or hang: its receipt knows which bytes belong to which sample, and what
that leaves open is asked of a process of its own (`python -m medadv.evidence.probe`).
"""

import json
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

from medadv.common.hashing import hash_file
from medadv.common.record import plain
from medadv.corpus.manifest import Manifest, ShardEntry
from medadv.corpus.receipt import Receipt, content_root
from medadv.datasets.labels import Array
from medadv.evidence.content import check_content
from medadv.evidence.finding import Finding
from medadv.evidence.universal import shared_arrays
from medadv.store.examine import BYTES_A_SECOND
from medadv.store.extents import damaged_pieces
from medadv.store.hold import ShardError
from medadv.store.reader import open_shard

PROBE_SECONDS = 20
"""And one more for every `BYTES_A_SECOND` of the file."""
Bring = Callable[[ShardEntry], AbstractContextManager[None]]
SHOWN = 20
"""Findings per shard that are spelt out; a shard that is wrong everywhere needs no million lines."""


@dataclass(frozen=True)
class ShardReport:
    """What one shard's check leaves behind: small, however large the shard."""

    findings: list[Finding]
    ids: int
    rising: bool
    """Whether the ids of its samples rise strictly, as planned shards' do."""
    first: str
    last: str
    small: dict[str, Array] | None
    """Arrays that are not image-sized, from which the manifest's numbers follow; None where the shard is not whole."""


def check_shard(root: Path, entry: ShardEntry, manifest: Manifest) -> ShardReport:
    """Check a shard that the manifest lists. root: the corpus."""
    findings: list[Finding] = []
    receipt = _receipt(root, entry, findings)
    path, name = root / entry.path, entry.path
    small = None
    whole = _same_bytes(path, entry)
    if receipt is not None:
        findings += list(_agreement(entry, receipt, manifest))
    if not path.is_file():
        findings.append(Finding(name, "missing"))
    elif not whole:
        findings += _located(path, name, receipt, manifest)
    elif receipt is not None:
        try:
            with open_shard(path) as file:
                wrong, small = check_content(name, file, receipt, manifest, shared_arrays(root, manifest))
                findings += wrong
        except ShardError as error:
            findings.append(Finding(name, str(error).removeprefix(f"{path}: ")))
    return _report(findings, receipt, small)


def checked(root: Path, entry: ShardEntry, facts: Manifest, bring: Bring | None = None) -> ShardReport:
    """`check_shard`, whatever the shard makes it raise. Lies here, so that a process of its own imports no more than this takes.

    bring: has the shard's file in its place while it is checked. What this raises of its own, FetchError, passes.
    """
    try:
        with nullcontext() if bring is None else bring(entry):
            return check_shard(root, entry, facts)
    except (OSError, ValueError, KeyError, TypeError, IndexError, RuntimeError, MemoryError) as error:
        return lost(entry, f"cannot be checked ({type(error).__name__})")


def lost(entry: ShardEntry, what: str) -> ShardReport:
    """Of a shard that was not checked."""
    return ShardReport([Finding(entry.path, what)], 0, True, "", "", None)


def _receipt(root: Path, entry: ShardEntry, findings: list[Finding]) -> Receipt | None:
    receipt, problem = entry.receipt(root)
    if problem:
        findings.append(Finding(entry.receipt_path, problem))
    return receipt


def _same_bytes(path: Path, entry: ShardEntry) -> bool:
    try:
        return path.stat().st_size == entry.bytes and hash_file(path) == entry.sha256
    except OSError:
        return False


def _agreement(entry: ShardEntry, receipt: Receipt, manifest: Manifest) -> Iterator[Finding]:
    """Receipt against manifest and against itself."""
    name = entry.receipt_path
    for key in ("bytes", "sha256", "samples", "content_root", "generation"):
        if getattr(receipt, key) != getattr(entry, key):
            yield Finding(name, f"{key} differs from the manifest")
    generations = manifest.generations
    if receipt.generation >= len(generations) or receipt.plan != generations[receipt.generation].plan:
        yield Finding(name, "was made by another plan than its generation's")
    if Path(name).stem != receipt.shard:
        yield Finding(name, f"is the receipt of {receipt.shard}")
    ids = [record.id for record in receipt.records]
    if len(ids) != receipt.samples or len(set(ids)) != len(ids):
        yield Finding(name, f"{len(set(ids))} different records for {receipt.samples} samples")
    if receipt.content_root != content_root(receipt.arrays, receipt.records):
        yield Finding(name, "content root does not follow from the arrays' hashes and the records")
    places = {record.place: record.id for record in receipt.records}
    planned = {(b, p): sample for b, batch in enumerate(receipt.batches) for p, sample in enumerate(batch) if sample is not None}
    if places != planned:
        yield Finding(name, "the records' places differ from the batches")
    for record in receipt.records:
        if record.attacks.keys() != manifest.attacks.keys():
            yield Finding(name, "attacks differ from the manifest's", record.id)


def _located(path: Path, name: str, receipt: Receipt | None, manifest: Manifest) -> list[Finding]:
    """Where a file with the wrong bytes is damaged, as far as that can be said."""
    findings = [Finding(name, "bytes differ from the manifest")]
    if receipt is None:
        return findings
    ids = [record.id for record in receipt.records]
    for array, index in damaged_pieces(path, receipt.extents):
        sample = ids[index] if index is not None and index < len(ids) else None
        findings.append(Finding(name, "stored bytes changed or are gone", sample, array))
    return findings if len(findings) > 1 else findings + _probed(path, name, receipt, manifest)


def _probed(path: Path, name: str, receipt: Receipt, manifest: Manifest) -> list[Finding]:
    """Let another process open the damaged file and compare what it decodes to."""
    question = json.dumps({"path": str(path), "name": name, "receipt": plain(receipt), "manifest": plain(manifest)})
    try:
        done = subprocess.run(
            [sys.executable, "-m", "medadv.evidence.probe"],
            input=question,
            capture_output=True,
            text=True,
            timeout=PROBE_SECONDS + path.stat().st_size / BYTES_A_SECOND,
            check=True,
            env={**os.environ, "PYTHONWARNINGS": "ignore"},
        )
        found = [Finding(**finding) for finding in json.loads(done.stdout)]
    except (OSError, ValueError, TypeError, subprocess.SubprocessError):
        found = [Finding(name, "HDF5 cannot read it")]
    return found or [Finding(name, "every array still decodes to what its receipt says: the damage lies in the file's structure")]


def _report(findings: list[Finding], receipt: Receipt | None, small: dict[str, Array] | None) -> ShardReport:
    whole = not findings
    if len(findings) > SHOWN:
        findings = [*findings[:SHOWN], Finding(findings[0].file, f"and {len(findings) - SHOWN} findings more")]
    ids = [record.id for record in receipt.records] if receipt else []
    rising = all(a < b for a, b in pairwise(ids))
    return ShardReport(findings, len(ids), rising, ids[0] if ids else "", ids[-1] if ids else "", small if whole else None)
