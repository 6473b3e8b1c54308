"""Damaged bytes of published files: every single one is found in time, and named as closely as the byte allows.

    MEDADV_DAMAGES=1000 ./scripts/test --dist load tests/evidence/test_damaged_bytes.py

is the long form, a thousand of each kind, ten minutes on one core; `.ci/run` takes a thousand flips and 200 of each other (`1000,200`).
"""

import os
import shutil
import time
from pathlib import Path

import numpy as np
import pytest
from tests.evidence.damage import KINDS, changed, chunk_owners, published

from medadv.evidence import check_shard
from medadv.evidence.verify import find_damage, verify

FLIPS, *_, OTHERS = [int(number) for number in os.environ.get("MEDADV_DAMAGES", "100,25").split(",")] * 2
GIVEN_UP_S = 5
"""After so long the process that looks into a damaged shard is given up here; 20 s in earnest."""
IN_TIME_S = 30


@pytest.mark.timeout(3600)
@pytest.mark.parametrize("kind", KINDS)
def test_damage_is_found_in_time(kind: str, tiny_corpus: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(check_shard, "PROBE_SECONDS", GIVEN_UP_S)
    copy = Path(shutil.copytree(tiny_corpus, tmp_path / "corpus"))
    rng = np.random.default_rng([20261122, list(KINDS).index(kind)])
    files = {path: path.read_bytes() for path in published(copy)}
    owners = {path: chunk_owners(path) for path in files if path.suffix == ".h5"}
    missed, late, in_arrays = [], [], 0
    count = FLIPS if kind == "flip" else OTHERS
    for number in range(count):
        damaged = changed(kind, files, rng)
        for path, data in damaged.items():
            path.write_bytes(data)
        start = time.monotonic()
        findings = find_damage(copy)
        took = time.monotonic() - start
        for path in damaged:
            path.write_bytes(files[path])
        names = {path.relative_to(copy).as_posix() for path in damaged}
        named = {finding.file for finding in findings}
        # Of the manifest and its hash file, only both together say that one of them was changed; without it nothing else may be known.
        of_manifest = any(name.startswith("manifest.json") for name in names)
        found = "manifest.json" in named if of_manifest else names <= named
        if found and kind == "flip" and not of_manifest:
            ((path, data),) = damaged.items()
            place = next(place for place, (old, new) in enumerate(zip(files[path], data, strict=True)) if old != new)
            owner = next(((s, a) for low, high, s, a in owners.get(path, []) if low <= place < high), None)
            found = owner is None or any((f.sample, f.array) == owner for f in findings)
            in_arrays += owner is not None
        if not found:
            missed.append((number, names, findings))
        if took > IN_TIME_S:
            late.append((number, names, took))
    assert (missed, late) == ([], [])
    assert kind != "flip" or in_arrays > count // 20
    assert verify(copy) == []
