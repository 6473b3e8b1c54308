"""Small hardenings, one a task, of victims that need no training."""

import csv
import json
from pathlib import Path
from typing import Any

import torch
import yaml
from safetensors.torch import load_file
from tests.conftest import CLASSIFIER, draw_pictures, save_victim, tiny_spec
from tests.run.test_tasks import UNET, chest, segmentation_spec

PLAIN = {
    "split": "train",
    "generations": 2,
    "epochs": 1,
    "rate": 1e-3,
    "batch_size": 4,
    "averaging": 0.5,
    "flips": "none",
    "validation": 0.3,
    "validation_attacks": [{"attack": "pgd", "steps": 2}],
    "final_attacks": [{"attack": "pgd", "steps": 2}, {"attack": "fgsm"}],
}


def classification(folder: Path, count: int = 20, final: int = 6, *, held: int = 0, **hardening: Any) -> Path:
    """Pictures of two classes, two a patient; the last ones are the final images, and `held` before them the split `val`."""
    draw_pictures(folder / "data", count + held + final)
    table = folder / "data" / "labels.csv"
    with table.open(newline="") as file:
        rows = list(csv.DictReader(file))
    for number, row in enumerate(rows):
        row["split"] = "train" if number < count else "val" if number < count + held else "test"
    with table.open("w", newline="") as file:
        writer = csv.DictWriter(file, list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)
    save_victim(folder / "victim.safetensors", "monai:densenet121", CLASSIFIER)
    attacks = {"pgd": {"attack": "pgd", "epsilon": 4, "steps": 2}}
    path = tiny_spec(folder, data__group="patient", data__split={"use": "test"}, attacks=attacks)
    return with_hardening(path, **hardening)


def segmentation(folder: Path, **hardening: Any) -> Path:
    """Slices of CT volumes with a box as `lung`; the last two volumes are the final images."""
    chest(folder / "data", (32, 32, 2), count=7)
    listing = folder / "data" / "dataset.json"
    records = json.loads(listing.read_text())["training"]
    listing.write_text(json.dumps({"name": "chest", "training": records[:5], "validation": records[5:]}))
    save_victim(folder / "victim.safetensors", "monai:unet", {"spatial_dims": 2, **UNET})
    attacks = {"pgd": {"attack": "pgd", "epsilon": 60, "steps": 2}}
    path = segmentation_spec(folder, 2, data__group="patient", data__split={"use": "validation"})
    spec = yaml.safe_load(path.read_text())
    path.write_text(yaml.safe_dump({**spec, "attacks": attacks}))
    return with_hardening(path, split="training", **hardening)


def detection(folder: Path, **hardening: Any) -> Path:
    """Pictures with a box each; the last two are the final images."""
    draw_pictures(folder / "data", 6, size=64)
    images = [
        {"id": i, "file_name": f"{i:03d}.png", "width": 64, "height": 64, "split": "train" if i < 4 else "test"} for i in range(6)
    ]
    boxes = [{"id": i, "image_id": i, "category_id": 7, "bbox": [8, 8, 20, 30]} for i in range(6)]
    coco = {"images": images, "annotations": boxes, "categories": [{"id": 7, "name": "polyp"}]}
    (folder / "data" / "boxes.json").write_text(json.dumps(coco))
    arguments = {"num_classes": 2, "size": 64, "channels": 64}
    save_victim(folder / "victim.safetensors", "torchvision:fcos_resnet10_fpn_gn", arguments)
    path = tiny_spec(
        folder,
        data={"modality": "endoscopy", "task": "detection", "layout": "coco", "path": "data/boxes.json", "split": {"use": "test"}},
        preprocess__size=[64, 64],
        victim__network="torchvision:fcos_resnet10_fpn_gn",
        victim__arguments=arguments,
        attacks={"pgd": {"attack": "pgd", "epsilon": 4, "steps": 1}},
    )
    once = [{"attack": "fgsm"}]
    return with_hardening(path, validation_attacks=once, final_attacks=once, **hardening)


def from_checkpoint(path: Path) -> Path:
    """The spec with its weights in a checkpoint of training on several devices, beside which something else lies."""
    weights = {f"module.{name}": value for name, value in load_file(path.parent / "victim.safetensors").items()}
    torch.save({"epoch": 3, "state_dict": weights, "ema": {"decay": torch.ones(1)}}, path.parent / "victim.pt")
    spec = yaml.safe_load(path.read_text())
    spec["victim"] |= {"weights": "victim.pt", "weights_key": "state_dict"}
    path.write_text(yaml.safe_dump(spec))
    return path


def with_hardening(path: Path, **changes: Any) -> Path:
    """The spec with a section `hardening`."""
    spec = yaml.safe_load(path.read_text())
    spec["hardening"] = {**PLAIN, **changes}
    path.write_text(yaml.safe_dump(spec))
    return path
