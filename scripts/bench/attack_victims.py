"""The victims of attack.py: random weights, random smooth images, the victim's own clean answers as truth."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

from medadv.batches.loading import Loaded
from medadv.datasets.labels import Boxes, Label
from medadv.datasets.sample import Sample
from medadv.datasets.source import Source
from medadv.plan.model import PlannedSample
from medadv.training.in_memory import as_victim
from medadv.victims.sources.registry import build_network
from medadv.victims.victim import TaskModel
from medadv_transforms.normalize import Normalize

UNET = {"in_channels": 1, "out_channels": 3, "channels": [16, 32, 64, 128, 256], "strides": [2, 2, 2, 2], "num_res_units": 2}
TINY = {"spatial_dims": 2, "n_input_channels": 3, "num_classes": 2, "widen_factor": 0.25}
SPECS: dict[str, tuple[str, str, dict[str, Any], tuple[int, ...], int, int]] = {
    # task, network, arguments, (C, *spatial), samples on a CPU, samples on a GPU
    "resnet18": ("classification", "torchvision:resnet18", {}, (3, 224, 224), 4, 256),
    "resnet50": ("classification", "torchvision:resnet50", {}, (3, 224, 224), 4, 256),
    "densenet121": ("classification", "monai:densenet121", {"spatial_dims": 2, "in_channels": 3, "out_channels": 5}, (3, 256, 256), 4, 128),
    "unet2d": ("segmentation", "monai:unet", {"spatial_dims": 2, "norm": "batch", **UNET}, (1, 256, 256), 4, 128),
    "unet3d": ("segmentation", "monai:unet", {"spatial_dims": 3, "norm": "batch", **UNET}, (1, 96, 96, 96), 1, 8),
    "segresnet3d": (
        "segmentation",
        "monai:segresnet",
        {"spatial_dims": 3, "in_channels": 1, "out_channels": 3, "init_filters": 16},
        (1, 96, 96, 96),
        1,
        8,
    ),
    "retinanet": ("detection", "torchvision:retinanet_resnet18_fpn_gn", {"num_classes": 2, "size": 256}, (3, 256, 256), 2, 64),
    "small": ("classification", "monai:resnet10", TINY, (3, 64, 64), 8, 8),
}


@dataclass(frozen=True)
class Case:
    """One victim with its batch."""

    victim: Callable[[], TaskModel]
    """Makes a fresh one with the same weights."""
    images: Tensor
    labels: Sequence[Label]
    targets: Any

    def loaded(self) -> list[Loaded]:
        """The batch in the form that planning takes."""
        nowhere = PlannedSample("", "", "", Source((), None))
        arrays = self.images.cpu().numpy().astype(np.uint8)
        samples = [Sample(array, "level8", "yx", None, None, None, None, {}) for array in arrays]
        pairs = zip(samples, self.labels, strict=True)
        return [Loaded(nowhere, sample, label, (0, place)) for place, (sample, label) in enumerate(pairs)]

    def strength(self, victim: TaskModel, delta: Tensor) -> dict[str, float]:
        """Share of successes and mean score of the adversarial images."""
        clean, after = victim.predict(self.images), victim.predict(self.images + delta)
        success = [victim.succeeded(c, a, y) for c, a, y in zip(clean, after, self.labels, strict=True)]
        scores = [victim.score(a, y) for a, y in zip(after, self.labels, strict=True)]
        return {"success": float(np.mean(success)), "score": float(np.mean(scores))}


def build(name: str, device: torch.device, batch: int | None) -> Case:
    """A victim and its batch on a device."""
    task, network, arguments, shape, few, many = SPECS[name]
    count = batch or (many if device.type == "cuda" else few)
    torch.manual_seed(0)
    state = _spread(build_network(network, arguments)).state_dict()
    classes = {"classification": arguments.get("num_classes", arguments.get("out_channels", 1000)), "segmentation": 3}.get(task)

    def fresh() -> TaskModel:
        built = build_network(network, arguments)
        built.load_state_dict(state)
        normalize = Normalize([0.5] * shape[0], [0.25] * shape[0])
        made = as_victim(built.eval(), task, normalize, classes=classes, spatial_dims=len(shape) - 1)
        made.module.to(device).eval()
        return made

    images = _smooth_images(count, shape).to(device)
    labels: list[Label]
    if task == "detection":
        side = float(shape[1])
        boxes = np.array([[0.2, 0.2, 0.6, 0.6], [0.5, 0.4, 0.9, 0.8]], np.float32) * side
        labels = [Boxes(boxes, np.array([1, 1], np.int64))] * count
    else:
        victim = fresh()
        labels = [victim.own_label(p) for p in victim.predict(images)]
    return Case(fresh, images, labels, fresh().targets(labels, device))


def _smooth_images(count: int, shape: tuple[int, ...]) -> Tensor:
    coarse = torch.rand(count, shape[0], *[8] * (len(shape) - 1))
    return (functional.interpolate(coarse, shape[1:], mode="bilinear" if len(shape) == 3 else "trilinear") * 255).round()


def _spread(network: nn.Module) -> nn.Module:
    """Batch-norm statistics other than 0 and 1, as after training."""
    for part in network.modules():
        if isinstance(part, nn.modules.batchnorm._BatchNorm):
            part.running_mean.uniform_(-0.1, 0.1)
            part.running_var.uniform_(0.5, 1.5)
    return network
