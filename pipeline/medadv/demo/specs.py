"""The demo's run specs, written where a newcomer finds them, and the training images read through the same readers as any run."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import yaml

from medadv.common.record import Json
from medadv.datasets.labels import Label
from medadv.datasets.layouts import list_samples
from medadv.datasets.reader import Reader
from medadv.datasets.sample import Sample
from medadv.demo.training import Images
from medadv.demo.victims import CLASSIFIER, DETECTOR, SEGMENTER, SIZE, Recipe
from medadv.spec.reading import load_spec
from medadv.spec.run_spec import RunSpec


@dataclass(frozen=True)
class Part:
    """One of the demo's three corpora. epsilon in stored units; noise: how it compares with that of the images."""

    name: str
    recipe: Recipe
    data: dict[str, Json]
    preprocess: dict[str, Json]
    train: str
    held_out: str
    epsilon: int
    noise: str


HOW = "by scripts/image_noise.py of medadv's repository"

PARTS = (
    Part(
        "ct",
        SEGMENTER,
        {"modality": "ct", "layout": "decathlon", "path": "../phantoms/ct/dataset.json", "group": "patient", "label_map": {"lesion": [1]}},
        {"as": "slices"},
        "training",
        "validation",
        20,
        "Noise of the scanner: a standard deviation of 18 to 24 HU by the patient, as medadv draws it. Epsilon 20 hides in that.",
    ),
    Part(
        "fundus",
        CLASSIFIER,
        {
            "modality": "fundus",
            "layout": "csv",
            "path": "../phantoms/fundus/labels.csv",
            "label": "referable",
            "classes": ["not referable", "referable"],
            "group": "patient",
        },
        {"size": [SIZE, SIZE]},
        "train",
        "test",
        4,
        f"Noise of the camera, {HOW}: 3.0 grey levels (1.5 to 5.2 in nine of ten images). Epsilon 4 is 1.3 times that.",
    ),
    Part(
        "endoscopy",
        DETECTOR,
        {"modality": "endoscopy", "layout": "coco", "path": "../phantoms/endoscopy/annotations_coco.json", "group": "group"},
        {"size": [SIZE, SIZE]},
        "train",
        "test",
        4,
        f"Noise of the camera, {HOW}: 2.2 grey levels (1.5 to 3.0 in nine of ten images). Epsilon 4 is 1.8 times that.",
    ),
)


def write_spec(root: Path, part: Part) -> Path:
    """The run spec of a part, for its held-out images; paths as in any user's folder."""
    sizes = {"epsilon": part.epsilon, "steps": 10}
    spec = {
        "name": f"demo-{part.name}",
        "data": {**part.data, "task": part.recipe.task, "split": {"use": part.held_out}, "licence": "none: synthetic phantoms"},
        "preprocess": part.preprocess,
        "victim": {
            "network": part.recipe.network,
            "arguments": part.recipe.arguments,
            "weights": f"../victims/{part.recipe.name}.safetensors",
            "normalize": part.recipe.normalize,
        },
        "attacks": {
            f"pgd-{part.epsilon}": {"attack": "pgd", **sizes},
            f"smia-{part.epsilon}": {"attack": "smia", **sizes},
        },
        "execution": {"batch_size": 4, "shard_size": 16},
        "output": f"../corpora/{part.name}",
    }
    path = root / "specs" / f"{part.name}.yaml"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(f"# medadv run {path.name}\n# {part.noise}\n{yaml.safe_dump(spec, sort_keys=False)}", encoding="utf-8")
    return path


def samples(spec_path: Path, split: str) -> list[Sample]:
    """The samples of a split, as a run would read them."""
    spec: RunSpec = load_spec(spec_path, [f"data.split.use={split}"])
    listing = list_samples(spec.data, spec_path.parent)
    reader = Reader(listing.root, spec.data, spec.preprocess)
    return [reader.read(part) for source in listing.sources for part in reader.expand(source)]


def stacked(found: Sequence[Sample]) -> tuple[Images, list[Label]]:
    """(images (n, C, *spatial), labels) for training. Every sample of the phantoms has a label."""
    return np.stack([sample.image for sample in found]), [sample.label for sample in found if sample.label is not None]
