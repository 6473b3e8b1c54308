"""What the manifest says in numbers, worked out again from receipts and shards: metrics, generations, repetition, sanity checks."""

import math
from collections.abc import Iterator, Mapping, Sequence
from itertools import accumulate
from pathlib import Path
from typing import Any

import numpy as np

from medadv.common.record import RecordError, parse, plain
from medadv.corpus.baseline import baseline
from medadv.corpus.folder import Workspace, shard_name
from medadv.corpus.manifest import Manifest, SanityReport
from medadv.corpus.measuring import count_starts, determinism_of, measure
from medadv.corpus.opening import UNREADABLE
from medadv.corpus.quarantine import read_quarantine
from medadv.corpus.receipt import Receipt
from medadv.datasets.labels import Array
from medadv.evidence.finding import Finding
from medadv.evidence.weak_signs import ladder_name, warnings_of
from medadv.plan.plan_settings import thresholds
from medadv.spec.attack import AttackSettings

NAME = "manifest.json"
CLOSE = 1e-6
"""Metrics of another version of MONAI or NumPy may differ by rounding."""
SHOWN = 20


def check_numbers(root: Path, manifest: Manifest, small: Sequence[dict[str, Array]]) -> Iterator[Finding]:
    """What does not follow. For a corpus whose shards and receipts were found to be whole; every receipt is read once more.

    small: the arrays of each shard that are not image-sized.
    """
    try:
        yield from _metrics(root, manifest, small)
        yield from _receipts(root, manifest)
    except UNREADABLE as error:
        yield Finding(NAME, f"its numbers cannot be worked out from the shards ({type(error).__name__})")


def _metrics(root: Path, manifest: Manifest, small: Sequence[dict[str, Array]]) -> Iterator[Finding]:
    """By the function that wrote them. Keys that an older version did not write are not asked for."""
    if manifest.metrics.keys() != manifest.attacks.keys():
        yield Finding(NAME, f"metrics of {sorted(manifest.metrics)}, but the attacks are {sorted(manifest.attacks)}")
    if manifest.starts != count_starts(small, manifest.attacks):
        yield Finding(NAME, "where samples began is not what the shards say")
    if not manifest.shards:
        return
    found = measure(small, manifest.data.task, manifest.attacks, thresholds(manifest))
    wrong: list[tuple[str, Any, Any]] = []
    for attack in manifest.attacks.keys() & manifest.metrics.keys():
        follows = plain(found[attack])
        if manifest.metrics[attack].attackable is None:
            # Before samples were told apart that could not be attacked, success was counted over all of them.
            follows["success"] = float(np.mean(np.concatenate([arrays[f"attacks/{attack}/success"] for arrays in small])))
        wrong += _different(plain(manifest.metrics[attack]), follows, f"metrics.{attack}")
    if manifest.baseline is not None:
        shards = [(root / entry.path, arrays) for entry, arrays in zip(manifest.shards, small, strict=True)]
        wrong += _different(plain(manifest.baseline), plain(baseline(manifest.data, next(iter(found.values())), shards)), "baseline")
    for key, stated, worked_out in wrong:
        yield Finding(NAME, f"{key} is {stated}, from the shards follows {worked_out}")


def _different(said: Any, follows: Any, where: str) -> Iterator[tuple[str, Any, Any]]:
    if isinstance(said, Mapping) and isinstance(follows, Mapping):
        for key, value in said.items():
            yield from _different(value, follows.get(key), f"{where}.{key}")
        return
    numbers = all(isinstance(value, int | float) for value in (said, follows))
    if not (math.isclose(said, follows, rel_tol=CLOSE, abs_tol=CLOSE) if numbers else said == follows):
        yield where, said, follows


def _receipts(root: Path, manifest: Manifest) -> Iterator[Finding]:
    """What follows from the records of all samples, in one pass over them."""
    firsts = list(accumulate((generation.shards for generation in manifest.generations), initial=0))
    gone = {number for generation in manifest.generations for number in generation.replaces}
    listed = {entry.path: entry for entry in manifest.shards}
    if len(listed) != len(manifest.shards):
        yield Finding(NAME, "lists a shard twice")
    left_out = {record.sample for record in read_quarantine(Workspace(root))}
    sanity = manifest.sanity
    wanted = set(sanity.sample_ids) if sanity else set()
    successes: dict[str, dict[str, int]] = {}
    repeated: list[Receipt] = []
    for place, generation in enumerate(manifest.generations):
        planned, known = 0, True
        for number in range(firsts[place], firsts[place + 1]):
            if number not in gone:
                listed.pop(f"shards/{shard_name(number)}.h5", None)
            receipt = _receipt(root, number) if number not in gone else None
            if receipt is None:
                # Replaced, or not made yet: nothing is left that says how many samples were planned for it.
                known = False
                continue
            planned += sum(len(batch) for batch in receipt.batches)
            if number == firsts[place]:
                repeated.append(receipt)
            if lost := [r.sample for r in receipt.quarantined if r.sample not in left_out]:
                yield Finding("quarantine.jsonl", "a sample that its receipt says was lost is missing", lost[0])
            for record in receipt.records:
                if record.id in wanted:
                    successes[record.id] = {name: outcome.success for name, outcome in record.attacks.items()}
        if known and planned != generation.samples:
            yield Finding(NAME, f"generation {place} of {generation.samples} samples, its receipts were planned for {planned}")
    for path in list(listed)[:SHOWN]:
        yield Finding(NAME, f"{path} belongs to no generation, or was replaced")
    said, follows = manifest.determinism, determinism_of(repeated)
    if (said.level, said.repeated) != (follows.level, follows.repeated):
        yield Finding(NAME, f"says determinism {said.level!r}, from the batches that were run twice follows {follows.level!r}")
    if sanity is not None:
        yield from _sanity(sanity, successes, manifest.attacks)


def _receipt(root: Path, number: int) -> Receipt | None:
    try:
        return parse(Receipt, Workspace(root).receipt(shard_name(number)).read_bytes())
    except (OSError, RecordError):
        return None


def _sanity(said: SanityReport, successes: Mapping[str, Mapping[str, int]], attacks: Mapping[str, AttackSettings]) -> Iterator[Finding]:
    """Samples that are in the corpus, the attack's own success on them, and the warnings that the numbers give.

    What an ensemble's member does by itself is not stored.
    """
    if missing := [sample for sample in said.sample_ids if sample not in successes]:
        yield Finding(NAME, "sanity checks on a sample that is not in the corpus", missing[0])
        return
    if len(said.sample_ids) != said.samples:
        yield Finding(NAME, f"sanity checks on {said.samples} samples, of which {len(said.sample_ids)} are named")
    if not said.samples:
        return
    # One sample at the edge may be judged otherwise in another batch.
    slack = 1 / said.samples + CLOSE
    own = [successes[sample].get(str(said.attack), 0) for sample in said.sample_ids]
    tried = said.worst_case.attacks if said.worst_case else list(attacks)
    best = [max((successes[sample].get(name, 0) for name in tried), default=0) for sample in said.sample_ids]
    white = {f"{key}.white_box": found.white_box for key in ("noise", "transfer") if (found := getattr(said, key)) is not None}
    member = said.attack in {ladder_name(name, settings) for name, settings in attacks.items() if settings.members}
    pairs = [] if member else [(key, value, sum(own) / said.samples) for key, value in white.items()]
    if said.worst_case is not None:
        pairs.append(("worst_case", said.worst_case.success, sum(best) / said.samples))
    for key, value, follows in pairs:
        if abs(value - follows) > slack:
            yield Finding(NAME, f"sanity.{key} is {value}, from the records follows {follows}")
    if len(said.warnings) < len(due := warnings_of(said)):
        yield Finding(NAME, f"sanity.warnings leave out what its own numbers say: {due[0]}")
