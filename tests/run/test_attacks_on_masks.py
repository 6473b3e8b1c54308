"""Attacks on masks, and those that shift the image or look ahead, through whole runs: verified, scored again and made again."""

import json
from pathlib import Path

import h5py
import numpy as np
import pytest
import yaml
from tests.conftest import CLASSIFIER, draw_pictures, quiet, save_victim, tiny_spec
from tests.run.test_tasks import UNET, checked, chest, segmentation_spec

from medadv.prepare.request import Options
from medadv.run.run import run

pytestmark = pytest.mark.usefixtures("inline")

ANY_TASK = {
    "difgsm": {"attack": "difgsm", "epsilon": 30, "step": 15, "steps": 3, "diversity": 0.9},
    "nifgsm": {"attack": "nifgsm", "epsilon": 30, "step": 15, "steps": 3, "keep": "best"},
    "smia-di": {"attack": "smia", "epsilon": 30, "step": 15, "steps": 2, "diversity": 1.0},
}
MASKS = {
    "segpgd": {"attack": "segpgd", "epsilon": 30, "step": 15, "steps": 3},
    "cospgd": {"attack": "cospgd", "epsilon": 30, "step": 15, "steps": 3, "keep": "last"},
    "sea": {"attack": "sea", "epsilon": 30, "steps": 4},
    "js": {"attack": "pgd", "loss": "js", "epsilon": 30, "step": 15, "steps": 2},
}


def with_attacks(path: Path, attacks: dict[str, dict[str, object]]) -> Path:
    path.write_text(yaml.safe_dump({**yaml.safe_load(path.read_text()), "attacks": attacks}))
    return path


@pytest.mark.parametrize("dims", [2, 3])
def test_masks(dims: int, tmp_path: Path) -> None:
    chest(tmp_path / "data", (32, 32, 4), count=1)
    save_victim(tmp_path / "victim.safetensors", "monai:unet", {"spatial_dims": dims, **UNET})
    result = run(with_attacks(segmentation_spec(tmp_path, dims), {**ANY_TASK, **MASKS}), Options(), quiet)
    manifest = checked(result)
    stored = {}
    for entry in manifest.shards:
        with h5py.File(result.corpus / entry.path) as file:
            for name in manifest.attacks:
                stored.setdefault(name, []).append(file[f"attacks/{name}/perturbation"][...])
    made = {name: np.concatenate(parts) for name, parts in stored.items()}
    assert all(np.abs(delta).max() == 30 for delta in made.values())
    assert len({delta.tobytes() for delta in made.values()}) == len(made), "two attacks that do the same"


def test_classes(tmp_path: Path) -> None:
    draw_pictures(tmp_path / "data", 3)
    save_victim(tmp_path / "victim.safetensors", "monai:densenet121", CLASSIFIER)
    checked(run(with_attacks(tiny_spec(tmp_path), ANY_TASK), Options(), quiet))


def test_boxes(tmp_path: Path) -> None:
    draw_pictures(tmp_path / "data", 2, size=64)
    images = [{"id": i, "file_name": f"{i:03d}.png", "width": 64, "height": 64} for i in range(2)]
    boxes = [{"id": i, "image_id": i, "category_id": 7, "bbox": [8, 8, 20, 30 - i]} for i in range(2)]
    coco = {"images": images, "annotations": boxes, "categories": [{"id": 7, "name": "polyp"}]}
    (tmp_path / "data" / "boxes.json").write_text(json.dumps(coco))
    network = "torchvision:fcos_resnet10_fpn_gn"
    arguments = {"num_classes": 2, "size": 64, "channels": 32}
    save_victim(tmp_path / "victim.safetensors", network, arguments)
    spec = tiny_spec(
        tmp_path,
        data={"modality": "endoscopy", "task": "detection", "layout": "coco", "path": "data/boxes.json"},
        preprocess__size=[64, 64],
        victim__network=network,
        victim__arguments=arguments,
    )
    checked(run(with_attacks(spec, ANY_TASK), Options(), quiet))
