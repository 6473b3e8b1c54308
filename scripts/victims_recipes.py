"""What is trained: one victim per task, and a second, different one to which adversarial examples can be transferred."""

from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class Recipe:
    """One victim.  size: side of the square input in pixels.  data: what it is trained on, as the card tells it.

    bears_bf16: whether it learns as well with convolutions in bfloat16, which it gets where the processor multiplies that fast.
    """

    name: str
    subject: str
    task: str
    modality: str
    network: str
    arguments: dict[str, Any]
    size: int
    classes: tuple[str, ...]
    epochs: int
    batch: int
    learning_rate: float
    bears_bf16: bool
    seed: int
    second: bool
    data: str
    split: str


FUNDUS = {
    "subject": "fundus",
    "task": "classification",
    "modality": "fundus",
    # Lesions are a few pixels wide even so.
    "size": 384,
    "classes": ("not referable", "referable"),
    "bears_bf16": True,
    "data": "fundus/labels.csv (IDRiD, column referable)",
    "split": "column split: train, held out test",
}
CT = {
    "subject": "ct",
    "task": "segmentation",
    "modality": "ct",
    "size": 256,
    "classes": ("background", "lung"),
    "bears_bf16": True,
    "data": "ct/dataset_slices.json (TCGA-LUAD)",
    "split": "training, held out validation; by patient",
}
POLYPS = {
    "subject": "polyps",
    "task": "detection",
    "modality": "endoscopy",
    "size": 160,
    "classes": ("background", "polyp"),
    # Half precision saves a third of the time here, but detectors have collapsed in it.
    "bears_bf16": False,
    "data": "polyps/annotations_coco.json",
    "split": "split of each image: train, held out test; look-alikes together",
}

RECIPES = (
    Recipe(
        name="fundus-resnet18",
        network="monai:resnet18",
        arguments={"spatial_dims": 2, "n_input_channels": 3, "num_classes": 2, "conv1_t_stride": 2, "widen_factor": 0.375},
        epochs=36,
        batch=16,
        learning_rate=1e-3,
        seed=0,
        second=False,
        **FUNDUS,
    ),
    Recipe(
        name="lung-unet",
        network="monai:unet",
        arguments={
            "spatial_dims": 2,
            "in_channels": 1,
            "out_channels": 2,
            "channels": [16, 32, 64, 128, 256],
            "strides": [2, 2, 2, 2],
            "num_res_units": 2,
            "norm": "batch",
        },
        epochs=60,
        batch=8,
        learning_rate=2e-3,
        seed=0,
        second=False,
        **CT,
    ),
    Recipe(
        name="polyp-fcos",
        network="torchvision:fcos_resnet18_fpn_gn",
        arguments={"num_classes": 2, "size": 160, "channels": 128},
        epochs=8,
        batch=8,
        learning_rate=5e-4,
        seed=0,
        second=False,
        **POLYPS,
    ),
    Recipe(
        name="fundus-second",
        network="monai:densenet121",
        arguments={
            "spatial_dims": 2,
            "in_channels": 3,
            "out_channels": 2,
            "init_features": 24,
            "growth_rate": 12,
            "block_config": [3, 6, 12, 8],
        },
        epochs=36,
        batch=16,
        learning_rate=1e-3,
        seed=1,
        second=True,
        **FUNDUS,
    ),
    Recipe(
        name="lung-second",
        network="monai:basicunet",
        arguments={"spatial_dims": 2, "in_channels": 1, "out_channels": 2, "features": [16, 16, 32, 64, 128, 16]},
        epochs=40,
        batch=8,
        learning_rate=2e-3,
        seed=1,
        second=True,
        **CT,
    ),
    Recipe(
        name="polyp-second",
        network="torchvision:fcos_resnet10_fpn_gn",
        arguments={"num_classes": 2, "size": 160, "channels": 96},
        epochs=12,
        batch=8,
        learning_rate=5e-4,
        seed=1,
        second=True,
        **POLYPS,
    ),
)
