"""The step loop never touches the host: every named attack on every kind of victim, on tensors without values (see device_guard.py).

Left out, because the losses that they are attacked with wait for the device by nature: torchvision's detectors look for the anchors
that match a box by masks, and MONAI's RetinaNet does the same; of the latter everything else is held here, with a loss of our own.
8-bit products (victims/int8.py) are computed on CPUs alone, and read the range of what they quantize.
"""

from dataclasses import dataclass, replace
from typing import Any

import pytest
import torch
from attack_cases import LEVEL8, classifier, images, labels, segmenter, settings
from device_guard import attack_on_meta
from medadv.victims.base import Normalized
from medadv.victims.retinanet import MonaiDetector, retinanet
from medadv.victims.segmentation import IGNORE, Segmenter
from medadv.victims.sliding import SlidingWindow
from torch import Tensor

from medadv.attacks.objective import Objective
from medadv.spec.attack import NAMED, AttackSettings
from medadv_transforms.normalize import Window

STEPS = 3
"""The first has no step before it; the third is like all that follow."""
GRID = {2: (18, 17), 3: (10, 9, 8)}


@dataclass(frozen=True)
class DenseLoss(MonaiDetector):
    """MONAI's detector but for its loss, which matches anchors with boxes by masks."""

    def deviation(self, outputs: Any, targets: Any, settings: AttackSettings) -> Tensor:
        return outputs.head["cls_logits"].flatten(1).sum(1)


def masks(n: int, classes: int, *spatial: int) -> Tensor:
    drawn = labels(n, classes, *spatial).to(torch.uint8)
    drawn[..., 0] = IGNORE
    return drawn


def sliding(axes: int, head: str, mode: str) -> Segmenter:
    """Windows smaller than the image along all axes but the first, where the image is padded."""
    whole = segmenter(axes, head=head)
    window = SlidingWindow(whole.module.network, (GRID[axes][0] + 2, *[6] * (axes - 1)), 0.5, mode, 4)
    return replace(whole, module=Normalized(whole.module.normalize, window))


def detector(axes: int) -> DenseLoss:
    shapes = [[8.0] * axes, [12.0] * axes]
    network = retinanet(axes, 1, 2, shapes, backbone="resnet10", conv1_t_stride=2).eval()
    return DenseLoss(Normalized(Window(0, 255), network), 3, 0.3)


def case(name: str) -> tuple[Objective, Tensor, Any]:
    """Victim, images and truth."""
    task, *rest = name.split()
    if task == "classification":
        (head,) = rest
        return classifier(head=head), images(2, 3, 16, 16), labels(2, 4) if head == "softmax" else labels(2, 2, 4).float()
    axes, grid = int(rest[0][0]), GRID[int(rest[0][0])]
    if task == "detection":
        return detector(axes), images(2, 1, *[2 * length for length in grid], dtype=torch.float32), []
    victim = segmenter(axes, head=rest[1]) if task == "segmentation" else sliding(axes, *rest[1:])
    return victim, images(2, 1, *grid), masks(2, 3, *grid) if rest[1] == "softmax" else masks(2, 2, 3, *grid)


CASES = [
    "classification softmax",
    "classification sigmoid",
    *(f"segmentation {axes}D {head}" for axes in (2, 3) for head in ("softmax", "sigmoid")),
    *(f"sliding {axes}D {head} gaussian" for axes in (2, 3) for head in ("softmax", "sigmoid")),
    "sliding 3D softmax constant",
    "detection 2D",
    "detection 3D",
]


@pytest.mark.parametrize("loss", ["ce", "dice_ce"])
@pytest.mark.parametrize("attack", sorted(NAMED))
@pytest.mark.parametrize("name", CASES)
def test_every_attack_on_every_victim(name: str, attack: str, loss: str, monkeypatch: pytest.MonkeyPatch) -> None:
    if loss == "dice_ce" and name.startswith(("classification", "detection")):
        pytest.skip("one loss")
    victim, batch, truth = case(name)
    chosen = settings(attack, loss=loss, **taps(attack))
    assert attack_on_meta(victim, batch, truth, chosen, LEVEL8, monkeypatch) > 20 * chosen.steps


def taps(attack: str) -> dict[str, Any]:
    """Kernels that fit the small grids."""
    steps = {} if attack == "fgsm" else {"steps": STEPS}
    return {**steps, "gradient_kernel_size": 5} if "gradient_sigma" in NAMED[attack] else steps
