"""The per-sample columns of a corpus: ids, scores and sizes, without any image."""

from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from medadv.common.errors import IntegrityError
from medadv.corpus.manifest import Manifest
from medadv.corpus.measuring import attackable_rows
from medadv.datasets.labels import Array, Label
from medadv.plan.plan_settings import thresholds
from medadv.store.layout import MADE_BY, MEMBER_SCORE, RESULTS, answer_at
from medadv.store.reader import read_small


@dataclass
class AttackColumns:
    """One attack's results, (n,) each: attackable and success, linf, l2 (stored units), score_clean, score_adversarial; answers where they
    are small."""

    attackable: Array
    success: Array
    linf: Array
    l2: Array
    score_clean: Array
    score_adversarial: Array
    clean: list[Label] = field(default_factory=list)
    adversarial: list[Label] = field(default_factory=list)
    made_by: Array | None = None
    """Of an ensemble, (n,): number of the member, or one of the codes in batches/ensemble.py."""
    member_score: Array | None = None
    """Of an ensemble, (n, members)."""

    @property
    def drop(self) -> Array:
        """Score on the clean image minus score on the adversarial one."""
        return np.asarray(self.score_clean - self.score_adversarial)


@dataclass
class Columns:
    """All samples in the order of the shards."""

    task: str
    ids: list[str]
    groups: list[str]
    places: list[tuple[Path, int]]
    """Shard file and index of every sample."""
    truths: list[Label]
    """Empty for segmentation: masks are read for the samples shown only."""
    attacks: dict[str, AttackColumns]
    strata: dict[str, list[str]] = field(default_factory=dict)
    """What the data set says of each sample by which they are told apart: site or device, say; empty text where it says nothing."""


def read_columns(corpus: Path, manifest: Manifest) -> Columns:
    """Read every shard's small arrays, one shard at a time."""
    task = manifest.data.task
    columns = Columns(task, [], [], [], [], {})
    limits = thresholds(manifest)
    parts: dict[str, dict[str, list[Array]]] = {name: {} for name in manifest.attacks}
    answers: dict[str, tuple[list[Label], list[Label]]] = {name: ([], []) for name in parts}
    for path, arrays in _shards(corpus, manifest):
        count = len(arrays["sample_id"])
        columns.ids += [bytes(value).decode() for value in arrays["sample_id"]]
        columns.groups += [bytes(value).decode() for value in arrays["group_id"]]
        columns.places += [(path, index) for index in range(count)]
        small = task != "segmentation"
        if small:
            columns.truths += [answer_at(arrays, "label", index) for index in range(count)]
        for name, found in parts.items():
            prefix = f"attacks/{name}"
            for key in (*RESULTS, *(told for told in (MADE_BY, MEMBER_SCORE) if f"{prefix}/{told}" in arrays)):
                found.setdefault(key, []).append(arrays[f"{prefix}/{key}"].astype(np.float64))
            found.setdefault("attackable", []).append(attackable_rows(arrays, name, task, limits[name]))
            for which, rows in zip(("clean", "adversarial"), answers[name], strict=True):
                if small:
                    rows += [answer_at(arrays, f"{prefix}/prediction_{which}", index) for index in range(count)]
    for name, found in parts.items():
        success, linf, l2, clean, adversarial = (np.concatenate(found[key]) for key in RESULTS)
        able = np.concatenate(found["attackable"])
        told = (np.concatenate(found[key]) if key in found else None for key in (MADE_BY, MEMBER_SCORE))
        columns.attacks[name] = AttackColumns(able, success, linf, l2, clean, adversarial, *answers[name], *told)
    columns.strata = _strata(corpus, manifest)
    return columns


def _strata(corpus: Path, manifest: Manifest) -> dict[str, list[str]]:
    """From the receipts, where the corpus says that they hold any."""
    found: dict[str, list[str]] = {name: [] for name in manifest.data.strata or ()}
    for shard in manifest.shards if found else ():
        receipt, why = shard.receipt(corpus)
        if receipt is None:
            raise IntegrityError(f"{shard.receipt_path}: {why}")
        for record in receipt.records:
            said = record.facts.get("strata")
            for name, values in found.items():
                values.append(str(said.get(name, "")) if isinstance(said, dict) else "")
    return found


def _shards(corpus: Path, manifest: Manifest) -> Iterator[tuple[Path, dict[str, Array]]]:
    for shard in manifest.shards:
        path = corpus / shard.path
        yield path, read_small(path)
