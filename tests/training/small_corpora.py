"""Corpora of known content, one a task, written without a run: just enough of one to be read."""

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
from tests.conftest import NO_PLAN, manifest_by_hand

from medadv.common.hashing import canonical_json, hash_bytes, hash_file
from medadv.store.layout import ShardContent
from medadv.store.writer import write_content

AFFINE = np.array([[0.0, -0.8, 0, 10], [0.8, 0, 0, -20], [0, 0, 2.5, 30], [0, 0, 0, 1]])
"""Oblique, anisotropic: nothing about it is its own inverse."""
EPSILON = 8.0


def write_corpus(
    root: Path,
    image: Any,
    label: Any,
    perturbation: Any = None,
    *,
    axes: str,
    task: str,
    affine: bool = False,
    unit: str = "level8",
    first: int = 0,
) -> Path:
    """A corpus of one shard.

    image: (n, C, *spatial).  label: array, or one (boxes, classes) a sample.  affine: whether it has AFFINE.  first: number of its samples.
    """
    draw = np.random.default_rng(5 + first)
    count = len(image)
    drawn = draw.integers(-EPSILON, EPSILON, image.shape, np.int8, endpoint=True)
    arrays = {
        "image": image,
        "sample_id": np.array([f"s{first + index}" for index in range(count)], "S"),
        "group_id": np.array([f"g{(first + index) // 2}" for index in range(count)], "S"),
        "attacks/a/perturbation": drawn if perturbation is None else perturbation,
        "attacks/a/success": np.arange(count, dtype=np.uint8) % 2,
    }
    if isinstance(label, list):
        arrays["label/boxes"] = np.concatenate([np.asarray(boxes, np.float32).reshape(-1, 2 * len(axes)) for boxes, _ in label])
        arrays["label/classes"] = np.concatenate([np.asarray(classes, np.int64) for _, classes in label])
        arrays["label/offsets"] = np.cumsum([0, *(len(classes) for _, classes in label)])
    else:
        arrays["label"] = label
    if affine:
        arrays["affine"] = np.stack([AFFINE] * count)
    root_attributes = {"spatial_axes": axes, "unit": unit, "task": task, "plan": NO_PLAN}
    content = ShardContent({"/": root_attributes, "attacks/a": {"epsilon": EPSILON}}, arrays)
    (root / "shards").mkdir(parents=True)
    shard = root / "shards" / "shard-00000.h5"
    write_content(shard, content, len(axes))
    manifest = manifest_by_hand(shard, count, EPSILON, modality="ct" if unit == "hu" else "endoscopy", task=task)
    (root / "manifest.json").write_bytes(canonical_json(manifest))
    return root


def photographs(count: int, side: int = 24, channels: int = 3) -> Any:
    """(n, C, y, x) uint8, away from the ends of the range, so that every perturbation fits."""
    return np.random.default_rng(3).integers(40, 200, (count, channels, side, side + 4), np.uint8)


def classification(root: Path, count: int = 8, *, first: int = 0, side: int = 24) -> Path:
    """Photographs with two classes in turn."""
    return write_corpus(root, photographs(count, side), np.arange(count) % 2, axes="yx", task="classification", first=first)


def segmentation(root: Path, count: int = 6, volumes: bool = False) -> Path:
    """HU slices (x, y) or volumes (x, y, z) with three classes, and geometry."""
    shape = (20, 16, 12) if volumes else (20, 16)
    draw = np.random.default_rng(4)
    image = draw.integers(-900, 900, (count, 1, *shape), np.int16)
    label = draw.integers(0, 3, (count, *shape), np.uint8)
    return write_corpus(root, image, label, axes="xyz" if volumes else "xy", task="segmentation", affine=True, unit="hu")


def detection(root: Path, count: int = 6, side: int = 64) -> Path:
    """Photographs with 0, 1, 2, 0, … boxes."""
    boxes = [[[4.0, 8.0, 24.0, 40.0], [30.0, 10.0, 60.0, 30.0]][: index % 3] for index in range(count)]
    return write_corpus(root, photographs(count, side), [(b, [1] * len(b)) for b in boxes], axes="yx", task="detection")


def sharded(root: Path, shards: int = 6, count: int = 4, side: int = 24) -> Path:
    """Photographs with two classes in turn in several shards, whose sizes and hashes the manifest states as it should."""
    (root / "shards").mkdir(parents=True)
    entries, manifest = [], {}
    for number in range(shards):
        part = classification(root / f"part{number}", count, first=number * count, side=side)
        shard = root / "shards" / f"shard-{number:05d}.h5"
        (part / "shards" / "shard-00000.h5").rename(shard)
        manifest = json.loads((part / "manifest.json").read_text())
        entries.append({**manifest["shards"][0], "path": f"shards/{shard.name}", "sha256": hash_file(shard)})
        shutil.rmtree(part)
    whole = {"shards": shards, "samples": shards * count}
    manifest |= {"shards": entries, "samples": whole["samples"], "generations": [{"plan": NO_PLAN, **whole}]}
    data = canonical_json(manifest)
    (root / "manifest.json").write_bytes(data)
    (root / "manifest.json.sha256").write_text(f"{hash_bytes(data)}  manifest.json\n")
    return root
