#!/usr/bin/env python
"""Peak memory of an attack on a whole CT volume through overlapping windows.

    python scripts/bench/volume.py                          # lidc_0314, 256 x 256 x 137
    python scripts/bench/volume.py --synthetic 512 512 200

The network is small and untrained: memory depends on sizes, not on weights. Prints one line of JSON.
"""

import argparse
import json
import os
import resource
import time
from pathlib import Path

import numpy as np
import torch

from medadv.attacks.engine import perturb
from medadv.spec.attack import AttackSettings
from medadv.victims.inputs.normalized import Normalized
from medadv.victims.inputs.sliding import SlidingWindow
from medadv.victims.sources.registry import build_network
from medadv.victims.tasks.segmentation import Segmenter
from medadv_transforms import read_ct_volume, read_mask
from medadv_transforms.normalize import Window
from medadv_transforms.units import LATTICES

CHECKOUT = Path(__file__).resolve().parents[2]


def real(folder: Path) -> tuple[np.ndarray, np.ndarray]:
    """Image (1, x, y, z) int16 and lung mask (x, y, z) of the LIDC volume."""
    ct = folder / "train" / "ct"
    loaded = read_ct_volume([ct / "images" / "lidc_0314.nii.gz"])
    return loaded.image, read_mask([ct / "labels" / "lidc_0314.nii.gz"], loaded)[0]


def synthetic(shape: list[int]) -> tuple[np.ndarray, np.ndarray]:
    """Blocks of random HU, and which of them are denser than -300."""
    coarse = np.random.default_rng(0).integers(-1000, 300, [-(-length // 8) for length in shape]).astype(np.int16)
    blocks = coarse.repeat(8, 0).repeat(8, 1).repeat(8, 2)[: shape[0], : shape[1], : shape[2]]
    return blocks[None], (blocks > -300).astype(np.uint8)


def main() -> None:
    root = os.environ.get("MEDADV_DATA")
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, default=Path(root) if root else CHECKOUT.parent / "shared" / "data")
    parser.add_argument("--synthetic", type=int, nargs=3, metavar=("X", "Y", "Z"))
    parser.add_argument("--attack", default="smia", choices=["pgd", "smia"])
    parser.add_argument("--steps", type=int, default=1)
    parser.add_argument("--channels", type=int, nargs="+", default=[8, 16])
    parser.add_argument("--window", type=int, default=96)
    parser.add_argument("--threads", type=int, default=1)
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    torch.manual_seed(0)
    image, mask = synthetic(arguments.synthetic) if arguments.synthetic else real(arguments.data)
    shape = {"channels": arguments.channels, "strides": [2] * (len(arguments.channels) - 1), "norm": "batch"}
    network = build_network("monai:unet", {"spatial_dims": 3, "in_channels": 1, "out_channels": 2, **shape}).eval()
    sliding = SlidingWindow(network, [arguments.window] * 3, 0.25, "gaussian", 1)
    victim = Segmenter(Normalized(Window(-1000, 400), sliding), "softmax", 2, 3)
    settings = AttackSettings.model_validate({"attack": arguments.attack, "epsilon": 20, "step": 10, "steps": arguments.steps})
    images = torch.from_numpy(image[None]).float()
    targets = victim.targets([victim.as_label(mask)], images.device)
    windows = len(sliding.places([max(length, arguments.window) for length in images.shape[2:]]))
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    started, used = time.monotonic(), time.process_time()
    delta = perturb(victim, images, targets, settings, lattice=LATTICES["hu"], seeds=[0])
    answer = {
        "shape": list(images.shape[2:]),
        "attack": arguments.attack,
        "steps": arguments.steps,
        "windows": windows,
        "changed_voxels": float((delta != 0).double().mean()),
        "wall_s": round(time.monotonic() - started, 1),
        "cpu_s": round(time.process_time() - used, 1),
        "rss_before_gib": round(before / 2**20, 2),
        "peak_rss_gib": round(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20, 2),
    }
    print(json.dumps(answer), flush=True)


if __name__ == "__main__":
    main()
