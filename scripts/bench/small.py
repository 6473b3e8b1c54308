"""Inputs for the benches of runs: pictures drawn on the spot and victims with random weights, so that nothing is downloaded."""

from pathlib import Path
from typing import Any

import numpy as np
import torch
import yaml
from PIL import Image
from safetensors.torch import save_file

from medadv.victims.sources.registry import build_network

TINY = {"spatial_dims": 2, "in_channels": 3, "out_channels": 2, "init_features": 8, "growth_rate": 4, "block_config": [2, 2]}
"""A DenseNet of a few thousand weights."""


def draw(folder: Path, count: int, size: int, first: int = 0, suffix: str = "png") -> None:
    """`count` smooth random pictures in two classes, and their labels.csv; earlier ones in the folder are kept in it."""
    folder.mkdir(parents=True, exist_ok=True)
    for index in range(first, first + count):
        coarse = np.random.default_rng([7, index]).integers(40, 216, (6, 6, 3), np.uint8)
        Image.fromarray(coarse).resize((size, size), Image.Resampling.BICUBIC).save(folder / f"{index:05d}.{suffix}")
    names = sorted(path.name for path in folder.glob(f"*.{suffix}"))
    rows = [f"{name},{int(name[:5]) % 2},p{int(name[:5]) // 3}" for name in names]
    (folder / "labels.csv").write_text("\n".join(["file,grade,patient", *rows]) + "\n")


def write_spec(folder: Path, size: int, network: str, arguments: dict[str, Any], attacks: dict[str, Any], **execution: Any) -> Path:
    """A run spec for the pictures in `folder`/data, with a victim of random weights beside it."""
    with torch.random.fork_rng():
        torch.manual_seed(0)
        save_file(build_network(network, arguments).state_dict(), folder / "victim.safetensors")
    spec = {
        "name": folder.name,
        "data": {
            "modality": "fundus",
            "task": "classification",
            "layout": "csv",
            "path": "data/labels.csv",
            "label": "grade",
            "group": "patient",
        },
        "preprocess": {"size": [size, size]},
        "victim": {
            "network": network,
            "arguments": arguments,
            "weights": "victim.safetensors",
            "normalize": {"mean": [0.5] * 3, "std": [0.25] * 3},
        },
        "attacks": attacks,
        "execution": execution,
        "output": "corpus",
        "sanity_samples": 0,
    }
    path = folder / "spec.yaml"
    path.write_text(yaml.safe_dump(spec))
    return path
