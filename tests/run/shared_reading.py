"""Plans of slices and pictures, loading as a worker does it, and counters of what is opened and called."""

import os
import sys
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from tests.transforms.ct_phantoms import ct_slice, stored_values, write_nifti, write_series

from medadv.batches.loading import LoadedBatch, batches
from medadv.datasets.file_hashes import FileHashes
from medadv.datasets.reader import Reader
from medadv.datasets.sample import Sample
from medadv.plan.cut import cut
from medadv.plan.model import PlannedShard
from medadv.prepare.survey import survey
from medadv.spec.execution import ExecutionSettings
from medadv.spec.reading import parse_spec

VICTIM: Any = SimpleNamespace(as_label=lambda label: label)
SHARD = 4
AFFINE = np.diag([-0.5, -0.75, 2.0, 1.0])

_watched: list[tuple[Path, Counter[str]]] = []


def _hook(event: str, arguments: tuple[Any, ...]) -> None:
    if event == "open" and _watched and isinstance(arguments[0], str | os.PathLike):
        for folder, counts in _watched:
            if Path(arguments[0]).is_relative_to(folder):
                counts[Path(arguments[0]).name] += 1


sys.addaudithook(_hook)


@contextmanager
def opens(folder: Path) -> Iterator[Counter[str]]:
    """How often each file below a folder is opened inside."""
    counts: Counter[str] = Counter()
    _watched.append((folder, counts))
    try:
        yield counts
    finally:
        _watched.pop()


def counted(monkeypatch: pytest.MonkeyPatch, owner: Any, name: str, key: Any) -> Counter[Any]:
    """Calls of a function from now on, by what `key` makes of their arguments."""
    counts: Counter[Any] = Counter()
    plain = getattr(owner, name)

    def counting(*arguments: Any, **options: Any) -> Any:
        counts[key(*arguments, **options)] += 1
        return plain(*arguments, **options)

    monkeypatch.setattr(owner, name, counting)
    return counts


def plan(folder: Path, preprocess: dict[str, Any] | None = None, **data: Any) -> tuple[Reader, list[PlannedShard]]:
    """Survey a folder and cut it into shards of four."""
    modality = data.get("modality", "ct")
    normalize = {"window": [-1000, 400]} if modality == "ct" else {"mean": [0.5], "std": [0.5]}
    spec = parse_spec(
        {
            "name": "x",
            "data": {"modality": modality, "task": "segmentation", "path": ".", **data},
            "preprocess": {"as": "slices", **(preprocess or {})} if modality == "ct" else {"size": [32, 32]},
            "victim": {"network": "monai:unet", "normalize": normalize},
            "attacks": {"a": {"attack": "pgd", "epsilon": 4}},
        },
        "spec",
    )
    seen = survey(spec, folder, FileHashes(folder / "cache.json"), b"key")
    shards = cut([(item.shape.shape, item.sample) for item in seen.found], ExecutionSettings(batch_size=2, shard_size=SHARD))
    return Reader(seen.root, spec.data, spec.preprocess), [PlannedShard.of_line(s.line()) for s in shards]


def load(reader: Reader, shards: list[PlannedShard], hashes: FileHashes | None = None) -> list[LoadedBatch]:
    """What a worker loads of the shards, one after the other."""
    hashes = hashes or FileHashes(None)
    return [batch for shard in shards for batch in batches(shard, reader, VICTIM, hashes=hashes)]


def loaded(found: list[LoadedBatch]) -> list[Sample]:
    assert [record for batch in found for record in batch.quarantined] == []
    return [item.sample for batch in found for item in batch.loaded]


def codes(found: list[LoadedBatch]) -> list[str]:
    return [record.code for batch in found for record in batch.quarantined]


def series(folder: Path, count: int) -> list[Path]:
    return write_series(folder, [ct_slice(z) for z in range(count)])


def volume(folder: Path, count: int) -> None:
    """A CT of `count` slices with a mask, and a csv that names both."""
    folder.mkdir(parents=True, exist_ok=True)
    values = np.stack([stored_values(z).T.astype(np.int16) - 1000 for z in range(count)], -1)
    write_nifti(folder / "ct.nii.gz", values, AFFINE)
    write_nifti(folder / "mask.nii.gz", (values > -950).astype(np.float32), AFFINE)
    (folder / "t.csv").write_text("file,mask\nct.nii.gz,mask.nii.gz\n")


TURNED = {"orientation": "RAS", "spacing": [1.0, 0.5, 2.0]}
CSV = {"layout": "csv", "path": "t.csv", "label": "mask"}
DICOM = {"layout": "dicom", "label": "none"}


def rewritten(path: Path, how: str) -> None:
    """Change one value of a file; `hidden` puts size and time of modification back."""
    before = path.stat()
    content = bytearray(path.read_bytes())
    if how != "touched":
        content[-1] ^= 1
    path.write_bytes(content)
    if how == "hidden":
        os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))
        assert (path.stat().st_size, path.stat().st_mtime_ns) == (before.st_size, before.st_mtime_ns)
    else:
        os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns + 10**9))
