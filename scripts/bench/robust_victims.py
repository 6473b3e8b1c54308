#!/usr/bin/env python3
"""Train small fundus victims: of five grades and of two classes, each trained against attacks in every step, and one of two that is not.

    scripts/bench/robust_victims.py --out DIR [--data DIR] [--only grades|referable|plain] [--size 64] [--epochs N] [--device D]

The victims of scripts/train_victims.py fall to one grey level, so that every attack looks perfect against them. `grades` and `referable`
see 64 pixels and learn from 354 photographs: as diagnoses they are worth nothing, as targets they hold somewhere and fall somewhere.
`plain` is `referable` without the attacks; of 128 pixels it is what TRAINING.md begins with. Each leaves
NAME.safetensors and NAME.yaml, a run spec of the held-out photographs whose evaluation takes APGD of 100 steps and Square of 5,000 queries.
"""

import argparse
import copy
import csv
import os
import time
from pathlib import Path
from typing import Any

import numpy as np
import torch
import yaml
from safetensors.torch import save_file
from torch import Tensor, nn
from torch.nn import functional

import medadv
from medadv.common.errors import SpecError
from medadv.common.files import writable_folder
from medadv.prepare.settings import resolve_device
from medadv.victims.sources.registry import build_network
from medadv_transforms import Normalize, read_colour

NETWORK = "monai:resnet18"
BATCH = 16
RATE, WEIGHT_DECAY = 1e-3, 0.05
AVERAGE = 0.995
"""Share of the running mean of the weights that a step leaves."""
STEPS = 1
"""Of the attack in every training step, from a random start: three at 2 grey levels leave a victim of which 66 in 69 hold at 1."""
EPSILON = 1.0
"""It reaches this after half of the epochs, and there is no attack before."""
GRADES = ["none", "mild", "moderate", "severe", "proliferative"]
REFERABLE = ["not referable", "referable"]
VICTIMS = {"grades": ("dr_grade", GRADES, True), "referable": ("referable", REFERABLE, True), "plain": ("referable", REFERABLE, False)}
"""Column of the labels, classes, and whether attacks are trained against."""
EVALUATION = {
    "attacks": [
        {"attack": "apgd", "loss": "ce", "steps": 100},
        {"attack": "apgd", "loss": "dlr", "steps": 100},
        {"attack": "apgd", "loss": "dlr", "target_classes": 4, "steps": 100},
        {"attack": "square", "steps": 5000},
    ],
    "epsilons": [1, 2],
}


def photographs(folder: Path, column: str, part: str, size: int) -> tuple[Tensor, Tensor]:
    """Images (n, 3, size, size) uint8 and classes (n,) of a split."""
    with (folder / "labels.csv").open(newline="") as table:
        rows = [row for row in csv.DictReader(table) if row["split"] == part]
    images = [read_colour(folder / row["file"], modality="fundus", size=(size, size), fit="pad", crop=True).image for row in rows]
    return torch.from_numpy(np.stack(images)), torch.tensor([int(row[column]) for row in rows])


def flipped(images: Tensor, draw: torch.Generator) -> Tensor:
    """Mirrored and shifted by up to four pixels, each by itself."""
    moved = images.clone()
    for row in range(len(images)):
        sides, shift = torch.randint(0, 2, (2,), generator=draw).tolist(), torch.randint(-4, 5, (2,), generator=draw).tolist()
        turned = images[row].flip([axis + 1 for axis, side in enumerate(sides) if side])
        moved[row] = turned.roll(shift, (1, 2))
    return moved


def train(
    images: Tensor, labels: Tensor, classes: int, against_attacks: bool, epochs: int, device: torch.device
) -> tuple[nn.Module, dict[str, Any], dict[str, Any]]:
    """Network with averaged weights, its arguments, and its normalisation."""
    torch.manual_seed(0)
    arguments = {"spatial_dims": 2, "n_input_channels": 3, "num_classes": classes, "conv1_t_stride": 2, "widen_factor": 0.5}
    network = build_network(NETWORK, arguments).to(device)
    levels = images.double() / 255
    normalize = {key: [round(float(v), 3) for v in getattr(levels, key)((0, 2, 3))] for key in ("mean", "std")}
    victim = medadv.as_victim(network, "classification", Normalize(**normalize), classes=classes)
    averaged = copy.deepcopy(network)
    optimiser = torch.optim.AdamW(network.parameters(), RATE, weight_decay=WEIGHT_DECAY)
    steps = epochs * (len(images) // BATCH)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimiser, RATE, total_steps=steps, pct_start=0.2)
    weight = (1 / torch.bincount(labels, minlength=classes).float().clamp(min=1).sqrt()).to(device)
    draw = torch.Generator().manual_seed(0)
    for epoch in range(epochs):
        epsilon = EPSILON * min(1.0, 2 * (epoch + 1) / epochs)
        order, mean, began = torch.randperm(len(images), generator=draw), 0.0, time.monotonic()
        for step, start in enumerate(range(0, len(images) - BATCH + 1, BATCH)):
            rows = order[start : start + BATCH]
            batch = {"image": flipped(images[rows], draw), "label": labels[rows]}
            if against_attacks and epsilon >= 1:
                settings = {"attack": "pgd", "epsilon": epsilon, "step": max(0.5, epsilon / 2), "steps": STEPS}
                seeds = torch.randint(0, 1 << 62, (len(rows),), generator=draw).tolist()
                batch["image"] = medadv.attack(victim, batch, settings, seeds=seeds)
            network.train()
            logits = victim.forward(batch["image"].to(device).float())
            loss = functional.cross_entropy(logits, batch["label"].to(device), weight / weight.mean())
            optimiser.zero_grad()
            loss.backward()
            optimiser.step()
            schedule.step()
            network.eval()
            with torch.no_grad():
                for mine, new in zip(averaged.state_dict().values(), network.state_dict().values(), strict=True):
                    mine.lerp_(new, 1 - AVERAGE) if mine.is_floating_point() else mine.copy_(new)
            mean += (loss.item() - mean) / (step + 1)
        print(f"epoch {epoch + 1}/{epochs}: loss {mean:.3f}, {time.monotonic() - began:.0f} s", flush=True)
    return averaged.cpu().eval(), arguments, normalize


def spec(
    name: str, column: str, classes: list[str], data: Path, out: Path, size: int, arguments: dict[str, Any], normalize: dict[str, Any]
) -> dict[str, Any]:
    """The run spec of the held-out photographs, with paths relative to it."""
    return {
        "name": name,
        "data": {
            "modality": "fundus",
            "task": "classification",
            "layout": "csv",
            "path": os.path.relpath(data / "labels.csv", out),
            "image": "file",
            "label": column,
            "group": "capture_session",
            "split": {"column": "split", "use": "test", "ignore": ["unused"]},
            "classes": classes,
        },
        "preprocess": {"size": [size, size], "fit": "pad", "crop": True},
        "victim": {"network": NETWORK, "arguments": arguments, "weights": f"{name}.safetensors", "normalize": normalize},
        "attacks": {"pgd-1": {"attack": "pgd", "epsilon": 1, "steps": 20}},
        "execution": {"batch_size": 33, "shard_size": 33},
        "evaluation": EVALUATION,
    }


def main() -> None:
    """Train, and say what the held-out photographs are answered."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    root = os.environ.get("MEDADV_DATA")
    default = (Path(root) if root else Path(__file__).resolve().parent.parent.parent.parent / "shared" / "data") / "train" / "fundus"
    parser.add_argument("--data", type=Path, default=default)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--only", choices=sorted(VICTIMS))
    parser.add_argument("--size", type=int, default=64, help="side of the images in pixels")
    parser.add_argument("--epochs", type=int, default=40)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--device", choices=["auto", "cpu", "cuda"], default="auto")
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    try:
        out = writable_folder(arguments.out)
        device = torch.device(resolve_device(arguments.device))
    except SpecError as error:
        parser.error(str(error))
    for kind, (column, classes, against_attacks) in VICTIMS.items():
        if arguments.only not in (None, kind):
            continue
        images, labels = photographs(arguments.data, column, "train", arguments.size)
        network, built, normalize = train(images, labels, len(classes), against_attacks, arguments.epochs, device)
        name = f"fundus-{kind}"
        save_file({key: value.contiguous() for key, value in network.state_dict().items()}, out / f"{name}.safetensors")
        written = spec(name, column, classes, arguments.data, out, arguments.size, built, normalize)
        (out / f"{name}.yaml").write_text(yaml.safe_dump(written, sort_keys=False))
        held, truth = photographs(arguments.data, column, "test", arguments.size)
        with torch.no_grad():
            answers = network(Normalize(**normalize)(held.float())).argmax(1)
        right, counts = int((answers == truth).sum()), torch.bincount(answers, minlength=len(classes)).tolist()
        print(f"{name}: {right} of {len(truth)} held-out photographs right, answers by class {counts}")


if __name__ == "__main__":
    main()
