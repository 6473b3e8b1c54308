"""The step loop never touches the host: every named attack on every kind of victim, on tensors without values (see device_guard.py).

Left out is what waits for the device by nature. torchvision's detectors find the anchors that match a box by masks, in the losses that they
are attacked with, and copy their means and deviations in every pass; MONAI's RetinaNet matches by masks too, and its heads look for values
that are not finite unless they are compiled; and a black box's boxes are suppressed and matched on the host. All else of the latter is held
here: dense outputs stand in for its loss and for its answers, and compilation is played. Convolutions in 8-bit products are for CPUs alone,
and read the range of what they quantize.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cache
from typing import Any

import pytest
import torch
from attack_cases import ALONE, MASKS_ALONE, classifier, images, labels, segmenter, settings
from device_guard import attack_on_meta
from torch import Tensor, nn

from medadv.attacks.objective import Objective
from medadv.spec.attack import OF_MASKS, AttackSettings
from medadv.victims.inputs.normalized import Normalized
from medadv.victims.inputs.sliding import SlidingWindow
from medadv.victims.sources.registry import build_network
from medadv.victims.sources.retinanet import retinanet
from medadv.victims.tasks.classification import Classifier
from medadv.victims.tasks.detection_monai import MonaiDetector
from medadv.victims.tasks.divergence import SLAB_VALUES
from medadv.victims.tasks.segmentation import IGNORE, Segmenter
from medadv_transforms.normalize import Window

GRID = {2: (18, 17), 3: (10, 9, 8)}
FEWEST = 10
"""Operations of our own and of the smallest victim in a step."""


@dataclass(frozen=True)
class DenseLoss(MonaiDetector):
    """MONAI's detector but for its loss and its answers."""

    def deviation(self, outputs: Any, targets: Any, settings: AttackSettings, progress: float = 0.0) -> Tensor:
        """Any of the dense outputs, so that all of the way back is gone."""
        return outputs.head["cls_logits"].flatten(1).sum(1) + outputs.head["bbox_regression"].flatten(1).sum(1)

    def seen(self, images: Tensor, targets: Any, settings: AttackSettings) -> tuple[Tensor, Tensor]:
        """The same of what is answered."""
        score = self.deviation(self.forward(images), targets, settings)
        return torch.zeros_like(score), score


def detector(axes: int) -> DenseLoss:
    network = retinanet(axes, 1, 2, [[8.0] * axes, [12.0] * axes], backbone="resnet10", conv1_t_stride=2).eval()
    return DenseLoss(Normalized(Window(0, 255), network), 3, 0.3)


def through_windows(whole: Segmenter, window: Sequence[int], mode: str = "gaussian") -> Segmenter:
    """The same network, four windows at a time."""
    return replace(whole, module=Normalized(whole.module.normalize, SlidingWindow(whole.module.network, window, 0.25, mode, 4)))


def masks(head: str, classes: int, *spatial: int) -> Tensor:
    """Truth of two samples, with voxels to ignore."""
    drawn = (labels(2, classes, *spatial) if head == "softmax" else labels(2, 2, classes, *spatial)).to(torch.uint8)
    drawn[..., 0] = IGNORE
    return drawn


@cache
def case(name: str) -> tuple[Objective, Tensor, Any]:
    """Victim, images and truth; without values after the first use, which matters to no other."""
    task, *rest = name.split()
    if task == "classification":
        return classifier(head=rest[0]), images(2, 3, 16, 16), labels(2, 4) if rest[0] == "softmax" else labels(2, 2, 4).float()
    axes = int(rest[0][0])
    if task == "detection":
        batch = images(2, 1, *[2 * length for length in GRID[axes]], dtype=torch.float32)
        return detector(axes), batch, [{"boxes": torch.ones(1, 2 * axes)}] * 2
    whole = segmenter(axes, head=rest[1])
    # Longer than the image along the first axis, where it is padded.
    window = (GRID[axes][0] + 2, *[6] * (axes - 1))
    victim = through_windows(whole, window, rest[2]) if task == "windows" else whole
    return victim, images(2, 1, *GRID[axes]), masks(rest[1], 3, *GRID[axes])


def chosen(attack: str, **changes: Any) -> AttackSettings:
    """Two steps: in the second there is one before it, as in all that follow; of apgd five, so that it comes past checkpoints. The
    gradient's kernel fits the small grids."""
    steps = {} if attack == "fgsm" else {"steps": 5 if attack == "apgd" else 2}
    return settings(attack, **{**steps, "gradient_kernel_size": 5, **changes})


GRIDDED = [f"{axes}D {head}" for axes in GRID for head in ("softmax", "sigmoid")]
VICTIMS = [
    "classification softmax",
    "classification sigmoid",
    *(f"segmentation {kind}" for kind in GRIDDED),
    *(f"windows {kind} gaussian" for kind in GRIDDED),
    "detection 3D",
]
PAIRS = [
    (name, attack)
    for name in VICTIMS
    for attack in ALONE
    if attack not in MASKS_ALONE or name.startswith(("segmentation", "windows"))
]


@pytest.mark.parametrize(("name", "attack"), PAIRS)
def test_every_attack_on_every_victim(name: str, attack: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Segmentation by Dice + CE, which is the plain cross-entropy and more."""
    if name.startswith("detection"):
        monkeypatch.setattr(torch.compiler, "is_compiling", lambda: True)
    # Fewer steps of sea would all be in the last of its balls.
    made = chosen(attack, **({"steps": 4} if attack in MASKS_ALONE else {} if attack == "square" else {"loss": "dice_ce"}))
    assert attack_on_meta(*case(name), made, monkeypatch) > FEWEST * made.steps


OTHERS: dict[str, dict[str, Any]] = {
    "cross-entropy": {"attack": "pgd", "loss": "ce"},
    "smoothed image": {"attack": "smia", "smooth": "image"},
    "constant target": {"attack": "smia", "stop_gradient": True},
    "hard target": {"attack": "smia", "stop_gradient": True, "target": "hard", "weight": 0.4},
    "millimetres": {"attack": "smia", "sigma_unit": "mm", "kernel_size": 3},
    "a bound between levels": {"attack": "pgd", "epsilon": 2.5, "step": 0.7},
    "diverse input": {"attack": "difgsm", "diversity": 1.0, "keep": "best"},
    "diverse input to both branches": {"attack": "smia", "diversity": 1.0},
    "Nesterov, and the best": {"attack": "nifgsm", "keep": "best"},
    "best of two starts": {"attack": "pgd", "keep": "best", "restarts": 2},
    "margins": {"attack": "apgd", "loss": "margin", "restarts": 2},
    "stabilized": {"attack": "apgd", "weight": 0.5, "keep": "last"},
    "squares of two starts": {"attack": "square", "restarts": 2, "epsilon": 2.5},
    "best, rounded": {"attack": "smia", "epsilon": 2.5, "step": 0.7, "keep": "best"},
    "best towards a class": {"attack": "pgd", "keep": "best", "goal": {"class": 1}},
    "best towards nothing": {"attack": "pgd", "keep": "best", "goal": "vanish"},
}


@pytest.mark.parametrize("setting", OTHERS)
@pytest.mark.parametrize("name", ["classification softmax", "segmentation 3D softmax", "windows 2D sigmoid constant"])
def test_other_settings_within_a_region(name: str, setting: str, monkeypatch: pytest.MonkeyPatch) -> None:
    victim, batch, truth = case(name)
    region, spacing = torch.ones_like(batch[:, :1]), [1.0, 1.5, 2.0][: batch.ndim - 2]
    assert attack_on_meta(victim, batch, truth, chosen(**OTHERS[setting]), monkeypatch, region, spacing) > 2 * FEWEST


@pytest.mark.parametrize("loss", ["ce", "dlr", "margin"])
@pytest.mark.parametrize("attack", ["apgd", "pgd", "square"])
def test_towards_several_classes(attack: str, loss: str, monkeypatch: pytest.MonkeyPatch) -> None:
    assert attack_on_meta(*case("classification softmax"), chosen(attack, loss=loss, target_classes=2), monkeypatch) > 2 * FEWEST


@pytest.mark.parametrize("loss", OF_MASKS)
@pytest.mark.parametrize("head", ["softmax", "sigmoid"])
def test_every_loss_of_masks(head: str, loss: str, monkeypatch: pytest.MonkeyPatch) -> None:
    assert attack_on_meta(*case(f"segmentation 2D {head}"), chosen("pgd", loss=loss), monkeypatch) > 2 * FEWEST


@pytest.mark.parametrize("loss", ["dice_ce", *OF_MASKS])
@pytest.mark.parametrize("head", ["softmax", "sigmoid"])
def test_volumes_whose_losses_go_slab_by_slab(head: str, loss: str, monkeypatch: pytest.MonkeyPatch) -> None:
    grid = (64, 96, 160)
    victim, truth = segmenter(3, classes=3, head=head), masks(head, 3, *grid)
    assert 2 * 3 * grid[0] * grid[1] * grid[2] > SLAB_VALUES
    batch = images(2, 1, *grid, dtype=torch.float32)
    victim.module.float()
    assert attack_on_meta(victim, batch, truth, chosen("smia", loss=loss), monkeypatch) > 2 * FEWEST


ONE_IN_TWO_OUT = {"in_channels": 1, "out_channels": 2}
UNET = {**ONE_IN_TWO_OUT, "channels": [8, 16, 16], "strides": [2, 2], "num_res_units": 1}
TRANSFORMER = {"in_channels": 1, "img_size": [32] * 2, "hidden_size": 24, "mlp_dim": 32, "num_heads": 4}
RESNET = {"n_input_channels": 1, "num_classes": 2}
NETWORKS: dict[str, dict[str, Any]] = {
    "attentionunet": {**ONE_IN_TWO_OUT, "channels": [4, 8, 16], "strides": [2, 2]},
    "basicunet": {**ONE_IN_TWO_OUT, "features": [4, 4, 8, 8, 16, 4]},
    "densenet121": {**ONE_IN_TWO_OUT, "init_features": 8, "growth_rate": 4, "block_config": [2, 2]},
    "densenet169": {**ONE_IN_TWO_OUT, "init_features": 8, "growth_rate": 4, "block_config": [2, 2]},
    "efficientnet": {"blocks_args_str": ["r1_k3_s11_e1_i32_o16_se0.25", "r1_k3_s22_e6_i16_o24_se0.25"], "in_channels": 1, "num_classes": 2},
    "dynunet": {**ONE_IN_TWO_OUT, "kernel_size": [3, 3, 3], "strides": [1, 2, 2], "upsample_kernel_size": [2, 2], "filters": [4, 8, 8]},
    "resnet10": RESNET,
    "resnet18": RESNET,
    "resnet34": RESNET,
    "resnet50": RESNET,
    "segresnet": {**ONE_IN_TWO_OUT, "init_filters": 8},
    "swinunetr": {**ONE_IN_TWO_OUT, "feature_size": 12},
    "unet": UNET,
    "unetr": {**TRANSFORMER, "out_channels": 2, "feature_size": 4},
    "vit": {**TRANSFORMER, "patch_size": [16] * 2, "num_layers": 2, "classification": True, "num_classes": 2},
    "vnet": ONE_IN_TWO_OUT,
}


@pytest.mark.parametrize("name", NETWORKS)
def test_a_network_of_each_family(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """MONAI's detector stands above."""
    network = build_network(f"monai:{name}", {"spatial_dims": 2, **NETWORKS[name]}).eval()
    victim = Classifier(Normalized(Window(0, 255), Pooled(network)), "softmax", 2)
    batch = images(2, 1, *[64 if name == "swinunetr" else 32] * 2, dtype=torch.float32)
    assert attack_on_meta(victim, batch, labels(2, 2), chosen("pgd"), monkeypatch) > 2 * FEWEST


class Pooled(nn.Module):
    """One answer for each image, from a network that answers a map, or a map and more."""

    def __init__(self, inner: nn.Module) -> None:
        super().__init__()
        self.inner = inner

    def forward(self, x: Tensor) -> Tensor:
        answer = self.inner(x)
        answer = answer if isinstance(answer, Tensor) else answer[0]
        return answer.reshape(*answer.shape[:2], -1).mean(2)
