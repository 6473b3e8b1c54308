#!/usr/bin/env python3
"""A task of two foreground classes, drawn: pictures, a small U-Net trained on them, and a spec whose goals are one class or the other.

    scripts/bench/two_classes.py --out DIR [--epochs N]
    medadv run DIR/two-classes.yaml

MONAI draws the discs (create_test_image_2d); those of class 1 (`organ`) have 40 HU, those of class 2 (`lesion`) 120 HU, in surroundings of
-80 HU with a scanner's noise of 20 HU. `class: lesion` wants every voxel of either answered as lesion, and `class: organ` as organ.
"""

import argparse
import json
import time
from pathlib import Path

import nibabel
import numpy as np
import torch
import yaml
from monai.data import create_test_image_2d
from monai.losses import DiceCELoss
from safetensors.torch import save_file

from medadv.common.errors import SpecError
from medadv.common.files import writable_folder
from medadv.victims.sources.registry import build_network
from medadv_transforms import Window

SIDE = 128
LEVELS = np.array([-80.0, 40.0, 120.0])
"""HU of background, organ and lesion."""
NOISE = 20.0
TRAIN, TEST = 96, 24
NETWORK = "monai:unet"
ARGUMENTS = {"spatial_dims": 2, "in_channels": 1, "out_channels": 3, "channels": [16, 32, 64], "strides": [2, 2], "num_res_units": 1}
WINDOW = [-200.0, 250.0]
BATCH = 12
EPSILONS = (20, 40)


def draw(seed: int) -> tuple[np.ndarray, np.ndarray]:
    """A slice (SIDE, SIDE) int16 HU and its classes uint8."""
    random = np.random.RandomState(seed)
    _, mask = create_test_image_2d(SIDE, SIDE, num_objs=8, rad_min=6, rad_max=16, num_seg_classes=2, random_state=random)
    classes = mask.astype(np.uint8)
    return np.rint(LEVELS[classes] + random.normal(0, NOISE, classes.shape)).astype(np.int16), classes


def write_phantoms(root: Path) -> tuple[torch.Tensor, torch.Tensor]:
    """All slices in Decathlon's layout; those for training as (n, 1, SIDE, SIDE) float32 and (n, 1, SIDE, SIDE) int64."""
    for folder in ("images", "labels"):
        (root / folder).mkdir(parents=True, exist_ok=True)
    drawn, entries = [draw(seed) for seed in range(TRAIN + TEST)], []
    for number, arrays in enumerate(drawn):
        names = [f"./{folder}/phantom{number:03d}.nii.gz" for folder in ("images", "labels")]
        for name, array in zip(names, arrays, strict=True):
            nibabel.save(nibabel.Nifti1Image(array[..., None], np.diag([-0.8, -0.8, 1.0, 1.0])), root / name)
        entries.append({"image": names[0], "label": names[1], "patient": f"phantom{number:03d}"})
    labels = {"0": "background", "1": "organ", "2": "lesion"}
    listing = {"name": "two classes", "modality": {"0": "CT"}, "labels": labels, "numTraining": TRAIN}
    listing |= {"tensorImageSize": "3D", "training": entries[:TRAIN], "validation": entries[TRAIN:]}
    (root / "dataset.json").write_text(json.dumps(listing, indent=1) + "\n")
    images, masks = (np.stack([pair[part] for pair in drawn[:TRAIN]])[:, None] for part in (0, 1))
    return torch.from_numpy(images).float(), torch.from_numpy(masks).long()


def train(images: torch.Tensor, masks: torch.Tensor, epochs: int) -> torch.nn.Module:
    """A U-Net, by Dice and cross entropy."""
    torch.manual_seed(0)
    network, before = build_network(NETWORK, ARGUMENTS), Window(*WINDOW)
    loss_of = DiceCELoss(to_onehot_y=True, softmax=True)
    optimiser = torch.optim.AdamW(network.parameters(), 2e-3)
    began = time.monotonic()
    for epoch in range(epochs):
        for rows in torch.split(torch.randperm(len(images)), BATCH):
            loss = loss_of(network(before(images[rows])), masks[rows])
            optimiser.zero_grad()
            loss.backward()
            optimiser.step()
        print(f"epoch {epoch + 1}/{epochs}: loss {loss.item():.3f}, {time.monotonic() - began:.0f} s", flush=True)
    return network


def spec() -> dict[str, object]:
    """The run spec, with paths relative to it."""
    goals = {f"{name}-{epsilon}": ({"class": name}, epsilon) for name in ("lesion", "organ") for epsilon in EPSILONS}
    return {
        "name": "two-classes",
        "data": {
            "modality": "ct",
            "task": "segmentation",
            "layout": "decathlon",
            "path": "phantoms/dataset.json",
            "group": "patient",
            "label_map": {"organ": [1], "lesion": [2]},
            "classes": ["organ", "lesion"],
            "split": {"use": "validation"},
            "licence": "none: drawn",
        },
        "preprocess": {"as": "slices"},
        "victim": {"network": NETWORK, "arguments": ARGUMENTS, "weights": "two-classes.safetensors", "normalize": {"window": WINDOW}},
        "attacks": {name: {"attack": "apgd", "goal": goal, "epsilon": epsilon, "steps": 50} for name, (goal, epsilon) in goals.items()},
        "execution": {"batch_size": 8, "shard_size": 24},
        "output": "corpus",
    }


def main() -> None:
    """Draw, train, and write the spec."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--epochs", type=int, default=20)
    parser.add_argument("--threads", type=int, default=1)
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    try:
        out = writable_folder(arguments.out)
    except SpecError as error:
        parser.error(str(error))
    network = train(*write_phantoms(out / "phantoms"), arguments.epochs)
    save_file({key: value.contiguous() for key, value in network.state_dict().items()}, out / "two-classes.safetensors")
    (out / "two-classes.yaml").write_text(yaml.safe_dump(spec(), sort_keys=False))


if __name__ == "__main__":
    main()
