#!/usr/bin/env python3
"""Does training with flips learn what training without them learns? It does only while masks follow their images.

check_flips.py [--dims 2 3] [--seeds N] [--steps N]

Phantoms hold a mark that is nowhere symmetric, the mask, at a random place among blobs of the same brightness. A small U-Net is trained
three times: without flips, scored on plain phantoms; with every image and mask flipped by MONAI's transform along the first axis, scored
on flipped phantoms with their own masks; and with masks flipped along the other axis than their images, as masks without a channel were.
Phantoms that are scored were not trained on. Prints the Dice of every seed.
"""

import argparse
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from monai.losses import DiceCELoss
from monai.networks.nets import UNet
from monai.transforms import Compose, Flipd
from torch.utils.data import DataLoader

from medadv.training.collate import collate
from medadv.training.dataset import CorpusDataset

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
from tests.training.small_corpora import write_corpus

SIDE = {2: 32, 3: 24}
PHANTOMS, HELD_OUT, BATCH = 96, 32, 8
STEPS = {2: 300, 3: 300}
RATE = 4e-3
LOWEST, KEPT, LOST = 0.8, 0.9, 0.7
"""Dice without flips; part of it that flips keep, and that wrong masks do not reach."""


def phantom(dims: int, draw: np.random.Generator) -> tuple[Any, Any]:
    """Image (*spatial) uint8 and mask: an L-shaped mark whose arms differ in length along every axis, and three square blobs."""
    side = SIDE[dims]
    image, mask = np.full((side,) * dims, 60.0), np.zeros((side,) * dims, bool)
    arms, thick = [side // 3, side // 4, side // 5][:dims], side // 12
    corner = [int(draw.integers(1, side - arm - 1)) for arm in arms]
    for axis, arm in enumerate(arms):
        mask[tuple(slice(c, c + (arm if a == axis else thick)) for a, c in enumerate(corner))] = True
    for _ in range(3):
        place = [int(draw.integers(0, side - thick - 1)) for _ in range(dims)]
        image[tuple(slice(p, p + thick + 1) for p in place)] = 150
    image[mask] = 150
    return np.clip(image + draw.normal(0, 12, image.shape), 0, 255).astype(np.uint8), mask.astype(np.uint8)


def write(root: Path, dims: int, number: int, seed: int) -> Path:
    """A corpus of phantoms, just enough of one to be trained on."""
    draw = np.random.default_rng([seed, dims])
    images, masks = zip(*(phantom(dims, draw) for _ in range(number)), strict=True)
    image, axes = np.stack(images)[:, None], "yx" if dims == 2 else "xyz"
    return write_corpus(root, image, np.stack(masks), np.zeros(image.shape, np.int8), axes=axes, task="segmentation")


def train(dataset: CorpusDataset, dims: int, steps: int, seed: int) -> Any:
    """A U-Net after `steps` steps of AdamW."""
    torch.manual_seed(seed)
    network = UNet(dims, 1, 2, channels=(12, 24, 48), strides=(2, 2), num_res_units=1)
    optimiser = torch.optim.AdamW(network.parameters(), lr=RATE)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimiser, RATE, total_steps=steps)
    loss, done = DiceCELoss(to_onehot_y=True, softmax=True), 0
    # Read once: Flipd draws nothing, so that an item is the same in every epoch.
    items: Any = [dataset[index] for index in range(len(dataset))]
    while True:
        for batch in DataLoader(items, BATCH, shuffle=True, drop_last=True, collate_fn=collate):
            optimiser.zero_grad()
            loss(network(batch["image"] / 128 - 1), batch["label"]).backward()
            optimiser.step()
            schedule.step()
            done += 1
            if done == steps:
                return network.eval()


def dice(network: Any, dataset: CorpusDataset) -> float:
    """Mean Dice of the mark."""
    values = []
    with torch.no_grad():
        for batch in DataLoader(dataset, BATCH, collate_fn=collate):
            found, truth = network(batch["image"] / 128 - 1).argmax(1, keepdim=True) == 1, batch["label"] == 1
            values += (2 * (found & truth).flatten(1).sum(1) / (found.flatten(1).sum(1) + truth.flatten(1).sum(1))).tolist()
    return float(np.mean(values))


def measure(dims: int, seed: int, steps: int) -> dict[str, float]:
    """Dice without flips, with flips, and with masks flipped along the other axis."""
    right = Flipd(["image", "label"], spatial_axis=0)
    # What `Flipd(["image", "label"])` did to a mask (*spatial) beside an image (C, *spatial): its first axis was taken for the channel.
    wrong = Compose([Flipd("image", spatial_axis=0), Flipd("label", spatial_axis=1)])
    arms: dict[str, tuple[Callable[..., Any] | None, Callable[..., Any] | None]] = {
        "plain": (None, None),
        "flipped": (right, right),
        "other axis": (wrong, right),
    }
    found = {}
    with tempfile.TemporaryDirectory() as folder:
        training = write(Path(folder) / "training", dims, PHANTOMS, 2 * seed)
        held_out = write(Path(folder) / "held-out", dims, HELD_OUT, 2 * seed + 1)
        for arm, (transform, scored) in arms.items():
            network = train(CorpusDataset(training, transform=transform, mode="clean"), dims, steps, seed)
            found[arm] = dice(network, CorpusDataset(held_out, transform=scored, mode="clean"))
    return found


def holds(found: dict[str, float]) -> bool:
    """Whether flips keep what is learnt, and masks along another axis lose it."""
    plain = found["plain"]
    return plain >= LOWEST and found["flipped"] >= KEPT * plain and found["other axis"] < LOST * plain


def main() -> int:
    """Train, score, print a line a seed; 1 where one does not hold."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--dims", type=int, nargs="+", default=[2, 3], choices=(2, 3))
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--steps", type=int, help="300 unless given")
    arguments = parser.parse_args()
    failed = 0
    for dims in arguments.dims:
        for seed in range(arguments.seeds):
            found = measure(dims, seed, arguments.steps or STEPS[dims])
            held = holds(found)
            failed += not held
            figures = "  ".join(f"{arm} {value:.3f}" for arm, value in found.items())
            print(f"{dims}D seed {seed}: Dice {figures}  {'holds' if held else 'DOES NOT HOLD'}", flush=True)
    return int(failed > 0)


if __name__ == "__main__":
    raise SystemExit(main())
