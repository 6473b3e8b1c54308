"""Three small data sets with victims, one a task, whose every byte follows from integer formulas: no random generator, no compressor and no
library's idea of a sine has a say, so that sample ids and plan hashes are the same on every machine."""

import json
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import torch
import yaml
from PIL import Image
from safetensors.torch import save_file

from medadv.victims.sources.registry import build_network

SIDE = 32
ATTACKS = {
    "pgd": {"attack": "pgd", "epsilon": 8, "step": 2, "steps": 2},
    "smia": {"attack": "smia", "epsilon": 8, "steps": 2},
}
EXECUTION = {"batch_size": 2, "shard_size": 4, "workers": 1, "device": "cpu"}
PHOTOGRAPH = {"mean": [0.5] * 3, "std": [0.25] * 3}
SPECS: dict[str, dict[str, Any]] = {
    "classification": {
        "data": {"modality": "fundus", "task": "classification", "layout": "csv", "path": "labels.csv", "label": "grade"},
        "preprocess": {"size": [SIDE, SIDE]},
        "victim": {
            "network": "monai:densenet121",
            "arguments": {
                "spatial_dims": 2,
                "in_channels": 3,
                "out_channels": 2,
                "init_features": 8,
                "growth_rate": 4,
                "block_config": [2, 2],
            },
            "normalize": PHOTOGRAPH,
        },
    },
    "segmentation": {
        "data": {"modality": "ct", "task": "segmentation", "layout": "decathlon", "path": "dataset.json", "group": "patient"},
        "victim": {
            "network": "monai:unet",
            "arguments": {"spatial_dims": 3, "in_channels": 1, "out_channels": 2, "channels": [4, 8], "strides": [2]},
            "normalize": {"window": [-1000, 400]},
        },
    },
    "detection": {
        "data": {"modality": "endoscopy", "task": "detection", "layout": "coco", "path": "annotations.json"},
        "preprocess": {"size": [SIDE, SIDE]},
        "victim": {
            "network": "torchvision:fcos_resnet10_fpn_gn",
            "arguments": {"num_classes": 2, "size": SIDE, "channels": 32},
            "normalize": PHOTOGRAPH,
        },
    },
}


def write_case(task: str, folder: Path) -> Path:
    """The data set, the victim and the run spec of a task; returns the spec's path. The corpus goes to `corpus` beside it, or to --out."""
    folder.mkdir(parents=True)
    {"classification": _photographs, "segmentation": _volumes, "detection": _frames}[task](folder)
    spec = SPECS[task]
    victim = {**spec["victim"], "weights": "victim.safetensors"}
    network = build_network(victim["network"], victim["arguments"])
    save_file({name: _weights(value) for name, value in network.state_dict().items()}, folder / "victim.safetensors")
    whole = {**spec, "name": f"golden-{task}", "victim": victim, "attacks": ATTACKS, "execution": EXECUTION, "sanity_samples": 2}
    path = folder / "spec.yaml"
    path.write_text(yaml.safe_dump({**whole, "output": "corpus"}))
    return path


def _weights(like: torch.Tensor) -> torch.Tensor:
    """Values of about the size that training leaves; variances are ones."""
    if not like.is_floating_point() or like.numel() == 0:
        return torch.zeros_like(like)
    numbers = torch.arange(like.numel(), dtype=torch.int64)
    fan_in = max(1, like[0].numel() if like.ndim > 1 else 16)
    # A power of two, so that no rounding differs anywhere.
    scale = 2.0 ** -(10 + fan_in.bit_length() // 2)
    values = ((numbers * 7919 + 104729) % 2003 - 1001).to(torch.float32) * scale
    return values.reshape(like.shape) if like.ndim > 1 else torch.ones_like(like)


def _levels(index: int, channels: int) -> np.ndarray[Any, np.dtype[np.uint8]]:
    y, x = np.mgrid[:SIDE, :SIDE]
    planes = [(x * (3 + index + c) + y * (5 + c) + x * y // (7 + index)) % 176 + 40 for c in range(channels)]
    return np.stack(planes, -1).astype(np.uint8)


def _photographs(folder: Path) -> None:
    rows = ["file,grade"]
    for index in range(6):
        Image.fromarray(_levels(index, 3)).save(folder / f"{index}.bmp")
        rows.append(f"{index}.bmp,{index % 2}")
    (folder / "labels.csv").write_text("\n".join(rows) + "\n")


def _volumes(folder: Path) -> None:
    records = []
    affine = np.diag([-1.5, -1.5, 2.0, 1.0])
    for index in range(2):
        x, y, z = np.mgrid[:SIDE, :SIDE, :8]
        volume = (x * 17 + y * 29 + z * 41 + index * 53) % 211 - 60
        mask = ((x >= 8 + index) & (x < 24) & (y >= 8) & (y < 24)).astype(np.uint8)
        volume[mask == 1] -= 800
        for name, array in (("image", volume.astype(np.int16)), ("mask", mask)):
            nib.save(nib.Nifti1Image(array, affine), folder / f"{name}{index}.nii")
        records.append({"image": f"image{index}.nii", "label": f"mask{index}.nii", "patient": f"p{index}"})
    (folder / "dataset.json").write_text(json.dumps({"name": "golden", "training": records}))


def _frames(folder: Path) -> None:
    images, annotations = [], []
    for index in range(4):
        Image.fromarray(_levels(10 + index, 3)).save(folder / f"{index}.bmp")
        images.append({"id": index, "file_name": f"{index}.bmp", "width": SIDE, "height": SIDE})
        if index:
            box = [2 * index, 3, 10 + index, 12]
            annotations.append({"id": index, "image_id": index, "category_id": 1, "bbox": box, "area": box[2] * box[3], "iscrowd": 0})
    content = {"images": images, "annotations": annotations, "categories": [{"id": 1, "name": "polyp"}]}
    (folder / "annotations.json").write_text(json.dumps(content))


def frozen_facts(corpus: Path) -> dict[str, Any]:
    """What no processor changes in a finished corpus: plan, sample ids, hashes of images and labels, and the keys of the records."""
    head = json.loads((corpus / ".medadv" / "plans" / "0000" / "plan.json").read_bytes())
    receipts = [json.loads(path.read_bytes()) for path in sorted((corpus / "shards").glob("*.json"))]
    manifest = json.loads((corpus / "manifest.json").read_bytes())
    canonical = json.dumps(head["settings"], sort_keys=True, separators=(",", ":"), ensure_ascii=False)
    return {
        "plan": head["hash"],
        "settings": canonical,
        "samples": [record["id"] for receipt in receipts for record in receipt["records"]],
        "arrays": {
            f"{receipt['shard']}/{name}": value
            for receipt in receipts
            for name, value in receipt["arrays"].items()
            if name == "image" or name.split("/")[0] == "label"
        },
        "receipt_keys": sorted({key for receipt in receipts for key in _keys(receipt)}),
        # What environment and tool hold is the machine's own; what the sanity checks hold follows from the answers.
        "manifest_keys": sorted(_keys({**manifest, "environment": None, "tool": None, "sanity": None})),
    }


def _keys(value: Any, path: str = "") -> set[str]:
    """Every path of keys in a JSON value; elements of a list count as one."""
    if isinstance(value, dict):
        return {p for key, part in value.items() for p in {f"{path}.{key}", *_keys(part, f"{path}.{key}")}}
    if isinstance(value, list):
        return {p for part in value for p in _keys(part, f"{path}[]")}
    return set()
