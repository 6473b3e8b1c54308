#!/usr/bin/env python3
"""How much faster is a 64-voxel cube read than its 512 x 512 x 200 volume? patches.py CORPUS NIFTI [--rounds N]

NIFTI is a CT volume, tiled to that size; of the corpus only the manifest is used.
"""

import argparse
import json
import statistics
import tempfile
import time
from pathlib import Path

import nibabel
import numpy as np
import torch

from medadv.store.layout import ShardContent
from medadv.store.writer import write_content
from medadv.training.dataset import CorpusDataset


def compare(corpus: Path, path: Path, rounds: int, work: Path) -> None:
    """Print how much faster a cube is read than its volume."""
    source = np.asarray(nibabel.load(path).dataobj).astype(np.int16)
    repeats = [-(-wanted // have) for wanted, have in zip((512, 512, 200), source.shape, strict=True)]
    volume = np.clip(np.tile(source, repeats)[:512, :512, :200], -1024, 3071)
    delta = np.random.default_rng(0).choice(np.array([-4, -2, 0, 2, 4], np.int8), volume.shape)
    (work / "shards").mkdir()
    arrays = {
        "image": volume[None, None],
        "attacks/a/perturbation": delta[None, None],
        "label": np.zeros((1, *volume.shape), np.uint8),
        "sample_id": np.array(["v"], "S"),
        "group_id": np.array(["g"], "S"),
        "attacks/a/success": np.ones(1, np.uint8),
    }
    shard = work / "shards/shard-00000.h5"
    # All but the shard, its kind and the attack is the corpus's; nothing but those is read here.
    manifest = json.loads((corpus / "manifest.json").read_text())
    attributes = {"spatial_axes": "xyz", "unit": "hu", "plan": manifest["generations"][0]["plan"]}
    write_content(shard, ShardContent({"/": attributes}, arrays), 3)
    entry = {**manifest["shards"][0], "path": "shards/shard-00000.h5", "samples": 1, "bytes": shard.stat().st_size, "generation": 0}
    data = {**manifest["data"], "modality": "ct", "unit": "hu", "task": "segmentation"}
    execution = {**manifest["execution"], "codec": "gzip"}
    manifest |= {"shards": [entry], "data": data, "attacks": {"a": {"attack": "pgd", "epsilon": 4}}, "execution": execution}
    (work / "manifest.json").write_text(json.dumps(manifest))
    whole, cube = CorpusDataset(work), CorpusDataset(work, patch=(64, 64, 64))
    seconds: dict[str, list[float]] = {"whole": [], "cube": []}
    for number in range(rounds):
        cube.set_epoch(number)
        for name, dataset in (("cube", cube), ("whole", whole)):
            if name == "whole" and number >= 3:
                continue
            start = time.perf_counter()
            dataset[0]
            seconds[name].append(time.perf_counter() - start)
    one, other = (statistics.median(seconds[name]) for name in ("whole", "cube"))
    print(f"512x512x200 pair: whole {one:.2f} s, 64x64x64 patch {other * 1e3:.1f} ms: {one / other:.0f} times faster")


def main() -> None:
    """Run it in a folder that goes away."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("corpus", type=Path)
    parser.add_argument("volume", type=Path)
    parser.add_argument("--rounds", type=int, default=7)
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as folder:
        compare(arguments.corpus, arguments.volume, arguments.rounds, Path(folder))


if __name__ == "__main__":
    main()
