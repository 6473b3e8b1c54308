"""The demo's three victims: small enough to be trained in about a minute each on two cores."""

from dataclasses import dataclass
from typing import Any

SIZE = 128
"""Side of the demo's images in pixels."""


@dataclass(frozen=True)
class Recipe:
    """One victim and how it is trained; network, arguments and normalize are in the run spec's own terms."""

    name: str
    task: str
    network: str
    arguments: dict[str, Any]
    normalize: dict[str, list[float]]
    classes: tuple[str, ...]
    epochs: int
    batch: int
    learning_rate: float


PHOTOGRAPH = {"mean": [0.485, 0.456, 0.406], "std": [0.229, 0.224, 0.225]}
CLASSIFIER = Recipe(
    name="fundus-classifier",
    task="classification",
    network="monai:densenet121",
    arguments={
        "spatial_dims": 2,
        "in_channels": 3,
        "out_channels": 2,
        "init_features": 16,
        "growth_rate": 12,
        "block_config": [2, 4, 4],
    },
    normalize=PHOTOGRAPH,
    classes=("not referable", "referable"),
    epochs=20,
    batch=16,
    learning_rate=3e-3,
)
SEGMENTER = Recipe(
    name="lesion-segmenter",
    task="segmentation",
    network="monai:unet",
    arguments={
        "spatial_dims": 2,
        "in_channels": 1,
        "out_channels": 2,
        "channels": [8, 16, 32, 64],
        "strides": [2, 2, 2],
        "num_res_units": 1,
    },
    normalize={"window": [-1000.0, 400.0]},
    classes=("background", "lesion"),
    epochs=18,
    batch=12,
    learning_rate=5e-3,
)
DETECTOR = Recipe(
    name="polyp-detector",
    task="detection",
    network="torchvision:fcos_resnet10_fpn_gn",
    arguments={"num_classes": 2, "size": SIZE, "channels": 64},
    normalize=PHOTOGRAPH,
    classes=("background", "polyp"),
    epochs=12,
    batch=8,
    learning_rate=1.5e-3,
)
