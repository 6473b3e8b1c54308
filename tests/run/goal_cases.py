"""A victim that goes by brightness alone, and corpora of it: it is known which samples can be driven where."""

from contextlib import nullcontext
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
import torch
import yaml
from PIL import Image
from tests.conftest import InlinePool, quiet
from torch import Tensor, nn

from medadv.corpus.folder import Workspace
from medadv.corpus.manifest import Manifest, read_manifest
from medadv.evidence.reproduce import reproduce
from medadv.evidence.rescore import rescore
from medadv.evidence.verify import verify
from medadv.prepare.request import Options
from medadv.run.run import run

SIDE = 32
EPSILON = 30
NORMALIZE = {"mean": [0.0] * 3, "std": [1.0] * 3}
CLASS_NAMES = ["low", "mid", "high"]


class Levels(nn.Module):
    """Three classes: below 100, up to 150, and above; of each voxel, or of the whole image."""

    def __init__(self, of_image: bool) -> None:
        super().__init__()
        self.of_image = of_image

    def forward(self, x: Tensor) -> Tensor:
        level = 255 * x.mean(1, keepdim=True)
        if self.of_image:
            level = level.flatten(1).mean(1, keepdim=True)
        return torch.cat([0 * level, level - 100, 2 * level - 250], 1) / 10


def save_levels(path: Path, of_image: bool) -> None:
    batch = torch.export.Dim("batch", min=1, max=64)
    program = torch.export.export(Levels(of_image).eval(), (torch.rand(2, 3, SIDE, SIDE),), dynamic_shapes=({0: batch},))
    torch.export.save(program, path)


def write_spec(folder: Path, task: str, data: dict[str, Any], victim: dict[str, Any], goals: dict[str, Any], **attack: Any) -> Path:
    settings = {"attack": "pgd", "epsilon": EPSILON, "step": 6, "steps": 12, **attack}
    spec = {
        "name": f"goals-{task}",
        "data": {"modality": "endoscopy", "task": task, **data},
        "preprocess": {"size": [SIDE, SIDE]},
        "victim": {"normalize": NORMALIZE, **victim},
        "attacks": {name: {**settings, "goal": goal} for name, goal in goals.items()},
        "execution": {"batch_size": 2, "shard_size": 4, "workers": 1},
        "sanity_samples": 2,
        "output": "corpus",
    }
    path = folder / "spec.yaml"
    path.write_text(yaml.safe_dump(spec, sort_keys=False))
    return path


def picture(path: Path, levels: np.ndarray) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(np.stack([levels.astype(np.uint8)] * 3, -1)).save(path)


PHANTOMS = {"lesion": (80, 125, 1), "nothing": (81, 81, 0), "cyst": (82, 170, 2), "dark": (60, 124, 1)}
"""Level of the tissue, of what is in it, and its class."""
MASK_GOALS = {"away": "untruth", "vanish": "vanish", "invent": "fabricate", "turn": {"class": "cyst"}}
MASKS_EXPECTED = {
    # Attackable, reached: a cyst is 70 levels too bright to vanish, dark tissue is 40 levels from a lesion.
    "vanish": ("lesion", "cyst", "dark"),
    "invent": ("lesion", "nothing", "cyst", "dark"),
    "turn": ("lesion", "dark"),
}
MASKS_REACHED = {"vanish": ("lesion", "dark"), "invent": ("lesion", "nothing", "cyst"), "turn": ("lesion", "dark")}


def write_masks(folder: Path) -> Path:
    for name, (tissue, level, value) in PHANTOMS.items():
        image, mask = np.full((SIDE, SIDE), tissue), np.zeros((SIDE, SIDE), np.uint8)
        image[8:20, 10:24], mask[8:20, 10:24] = level, value
        picture(folder / "data" / "images" / f"{name}.png", image)
        (folder / "data" / "masks").mkdir(exist_ok=True)
        Image.fromarray(mask).save(folder / "data" / "masks" / f"{name}.png")
    save_levels(folder / "levels.pt2", of_image=False)
    data = {
        "layout": "folders",
        "path": "data",
        "image": "images/{id}.png",
        "label": "masks/{id}.png",
        "label_map": {"lesion": [1], "cyst": [2]},
    }
    return write_spec(folder, "segmentation", data, {"network": "levels.pt2"}, MASK_GOALS)


def corpus_of_masks(folder: Path) -> Path:
    """A finished corpus of masks, made in this process."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("medadv.run.cluster.connect", lambda *_, **__: nullcontext(InlinePool()))
        return run(write_masks(folder), Options(), quiet).corpus


def stored(corpus: Path, key: str) -> dict[str, np.ndarray]:
    """A per-sample array of every attack that has it, samples in the order of the shards."""
    found: dict[str, list[np.ndarray]] = {}
    for path in sorted((corpus / "shards").glob("*.h5")):
        with h5py.File(path) as file:
            for name, group in file["attacks"].items():
                if key in group:
                    found.setdefault(name, []).append(group[key][...])
    return {name: np.concatenate(parts) for name, parts in found.items()}


def checked(corpus: Path) -> Manifest:
    assert verify(corpus) == []
    assert rescore(corpus, [], False, quiet) == []
    assert reproduce(corpus, None, data=corpus.parent / "data").equal
    return read_manifest(Workspace(corpus))


def names_of(corpus: Path, arrays: dict[str, np.ndarray]) -> dict[str, list[str]]:
    """Phantoms for which an array says 1; they are told by the level in their middle."""
    with h5py.File(corpus / "shards" / "shard-00000.h5") as file:
        centres = file["image"][:, 0, 12, 12].tolist()
    known = {level: name for name, (_, level, _) in PHANTOMS.items()}
    return {attack: sorted(known[c] for c, value in zip(centres, values, strict=True) if value) for attack, values in arrays.items()}


