"""Networks as training code has them: wrapped, in other precisions, with checkpoints, several outputs, or further heads."""

from collections import OrderedDict
from collections.abc import Callable
from typing import Any

import pytest
import torch
from monai.networks.nets import DynUNet
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint
from torchvision.models.detection import KeypointRCNN, MaskRCNN
from torchvision.models.detection.anchor_utils import AnchorGenerator, DefaultBoxGenerator
from torchvision.models.detection.keypoint_rcnn import KeypointRCNNHeads, KeypointRCNNPredictor
from torchvision.models.detection.ssd import SSD

from medadv.training.in_memory import as_victim, attack
from medadv_transforms.normalize import Normalize, Window

PGD = {"attack": "pgd", "epsilon": 4, "step": 2, "steps": 3}
SMIA = {**PGD, "attack": "smia"}
MASKS = {
    "image": torch.randint(-900, 900, (2, 1, 16, 16), generator=torch.Generator().manual_seed(1)),
    "label": torch.randint(0, 3, (2, 1, 16, 16), generator=torch.Generator().manual_seed(2)),
}


class Plain(nn.Module):
    """Three convolutions, the middle one behind a checkpoint on request; answers as `form` makes them."""

    def __init__(self, form: Callable[[Tensor], Any] = lambda logits: logits, reentrant: bool | None = None) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.first, self.middle, self.last = nn.Conv2d(1, 4, 3, padding=1), nn.Conv2d(4, 4, 3, padding=1), nn.Conv2d(4, 3, 3, padding=1)
        self.form, self.reentrant = form, reentrant

    def forward(self, images: Tensor) -> Any:
        features = self.first(images).relu()
        inner = self.middle(features) if self.reentrant is None else checkpoint(self.middle, features, use_reentrant=self.reentrant)
        return self.form(self.last(inner.relu()))


def attacked(network: nn.Module, settings: Any = SMIA, **options: Any) -> Tensor:
    victim = as_victim(network, "segmentation", Window(-1000, 1000), classes=3, **options)
    return attack(victim, MASKS, settings, unit="hu", seeds=[1, 2])


@pytest.fixture(scope="module")
def expected() -> Tensor:
    return attacked(Plain())


def half_size(logits: Tensor) -> Tensor:
    return nn.functional.avg_pool2d(logits, 2)


SAME: dict[str, Callable[[], tuple[nn.Module, dict[str, Any]]]] = {
    "data parallel": lambda: (nn.DataParallel(Plain()), {}),
    "checkpoint": lambda: (Plain(reentrant=False), {}),
    "reentrant checkpoint": lambda: (Plain(reentrant=True), {}),
    "list": lambda: (Plain(lambda logits: [logits, half_size(logits)]), {}),
    "list, last": lambda: (Plain(lambda logits: [-logits, logits]), {"output": -1}),
    "tuple of one": lambda: (Plain(lambda logits: (logits,)), {}),
    "stacked": lambda: (Plain(lambda logits: torch.stack([logits, -logits], 1)), {}),
    "stacked, second": lambda: (Plain(lambda logits: torch.stack([-logits, logits], 1)), {"output": 1}),
    "torchvision's": lambda: (Plain(lambda logits: OrderedDict(out=logits, aux=-logits)), {}),
    "named": lambda: (Plain(lambda logits: {"aux": -logits, "main": logits}), {"output": "main"}),
}


@pytest.mark.parametrize("name", SAME)
def test_the_same_network_in_other_clothes_is_attacked_alike(name: str, expected: Tensor) -> None:
    network, options = SAME[name]()
    before = {key: value.clone() for key, value in network.state_dict().items()}
    assert torch.equal(attacked(network, **options), expected)
    assert all(torch.equal(value, before[key]) for key, value in network.state_dict().items())
    assert all(parameter.requires_grad and parameter.grad is None for parameter in network.parameters())


@pytest.mark.parametrize("dtype", [torch.float64, torch.float16, torch.bfloat16])
def test_networks_in_another_precision(dtype: torch.dtype, expected: Tensor) -> None:
    found = attacked(Plain().to(dtype))
    assert found.dtype == expected.dtype
    assert 0 < (found - MASKS["image"]).abs().max() <= 4
    # Signs of small gradients differ; the rest follows the same loss.
    assert (found == expected).float().mean() > (0.99 if dtype == torch.float64 else 0.8)


def test_monais_deep_supervision() -> None:
    torch.manual_seed(0)
    network = DynUNet(2, 1, 3, [3, 3, 3], [1, 2, 2], [2, 2], filters=[4, 8, 8], deep_supervision=True, deep_supr_num=1).train()
    found = attacked(network)
    assert 0 < (found - MASKS["image"]).abs().max() <= 4
    assert network.training


@pytest.mark.parametrize(
    ("form", "options", "message"),
    [
        (lambda logits: [logits, -logits], {}, r"\[4, 3, 16, 16\], \[4, 3, 16, 16\]: say which is the answer, as_victim\(…, output=0\)"),
        (lambda logits: {"a": logits, "b": logits}, {}, "the network gives 'a', 'b': say"),
        (lambda logits: {"a": logits}, {"output": "out"}, "output='out' is none of the network's: 'a'"),
        (lambda logits: logits, {"output": 1}, r"output=1: the network answers one tensor \[4, 3, 16, 16\]"),
    ],
)
def test_outputs_that_do_not_tell(form: Any, options: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        attacked(Plain(form), **options)


class Backbone(nn.Module):
    """One small feature map, as torchvision's detectors take it."""

    def __init__(self, out_channels: Any = 8) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.body = nn.Sequential(nn.Conv2d(3, 8, 3, stride=4, padding=1), nn.ReLU(), nn.Conv2d(8, 8, 3, stride=2, padding=1))
        self.out_channels = out_channels

    def forward(self, images: Tensor) -> Any:
        return OrderedDict({"0": self.body(images)})


BOXES = {
    "image": torch.randint(0, 256, (2, 3, 64, 64), dtype=torch.uint8, generator=torch.Generator().manual_seed(1)),
    "boxes": [torch.tensor([[8.0, 8, 40, 40]]), torch.zeros(0, 4)],
    "classes": [torch.tensor([1]), torch.zeros(0, dtype=torch.int64)],
}


@pytest.mark.parametrize(("kind", "what"), [(MaskRCNN, "masks"), (KeypointRCNN, "keypoints")])
def test_further_heads_are_left_out_and_said_to_be(kind: Any, what: str) -> None:
    sizes: dict[str, Any] = {"min_size": 64, "max_size": 64, "rpn_anchor_generator": AnchorGenerator(((16, 32),), ((1.0,),))}
    if kind is KeypointRCNN:
        # Its own are eight layers of 512 channels.
        sizes |= {"keypoint_head": KeypointRCNNHeads(8, [8]), "keypoint_predictor": KeypointRCNNPredictor(8, 17)}
    network = kind(Backbone(), num_classes=2, rpn_pre_nms_top_n_train=50, rpn_post_nms_top_n_train=20, **sizes)
    with pytest.warns(UserWarning, match=f"{what} are left out of the loss"):
        victim = as_victim(network, "detection", Normalize([0.5] * 3, [0.25] * 3), score_threshold=0.0)
    found = attack(victim, BOXES, {**SMIA, "steps": 1}, seeds=[1, 2])
    assert 0 < (found.int() - BOXES["image"].int()).abs().max() <= 4
    assert getattr(network.roi_heads, f"{what[:-1]}_roi_pool") is not None


def test_ssd_with_detections_that_have_no_extent() -> None:
    network = SSD(Backbone([8]), DefaultBoxGenerator([[2]]), (64, 64), 2, score_thresh=0.0)
    with torch.no_grad():
        # Every box far beyond the image's right edge: clipped to it, nothing is left of most.
        for part in network.head.regression_head.modules():
            if isinstance(part, nn.Conv2d):
                part.bias.view(-1, 4)[:, 0] = 60.0
    victim = as_victim(network, "detection", Normalize([0.5] * 3, [0.25] * 3), score_threshold=0.0)
    found = attack(victim, BOXES, {**SMIA, "steps": 1}, seeds=[1, 2])
    assert 0 < (found.int() - BOXES["image"].int()).abs().max() <= 4


def test_detectors_in_half_precision_are_refused() -> None:
    network = SSD(Backbone([8]), DefaultBoxGenerator([[2]]), (64, 64), 2).half()
    with pytest.raises(ValueError, match=r"float16, which does not hold the corners of boxes: give the attack network.float"):
        attack(as_victim(network, "detection", Normalize([0.5] * 3, [0.25] * 3)), BOXES, PGD)
