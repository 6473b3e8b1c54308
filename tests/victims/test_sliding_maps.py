"""A detector through windows: maps, gradients and boxes against MONAI's own sliding windows over the same network."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from monai.apps.detection.networks.retinanet_detector import RetinaNetDetector
from monai.apps.detection.utils.detector_utils import preprocess_images
from monai.apps.detection.utils.predict_utils import predict_with_inferer
from monai.inferers.inferer import SlidingWindowInferer
from safetensors.torch import save_file
from torch import Tensor, nn

from medadv.attacks.engine import perturb
from medadv.common.errors import SpecError
from medadv.datasets.labels import Boxes
from medadv.spec.attack import AttackSettings
from medadv.spec.victim import VictimSettings
from medadv.victims.inputs.normalized import Normalized
from medadv.victims.inputs.sliding_maps import SlidingMaps
from medadv.victims.loading import VictimRequest
from medadv.victims.sources.retinanet import retinanet
from medadv.victims.tasks.detection_monai import MonaiDetector
from medadv_transforms.normalize import Window
from medadv_transforms.units import LATTICES

KEYS = ("classification", "box_regression")
ARGUMENTS: dict[str, Any] = {
    "spatial_dims": 3,
    "in_channels": 1,
    "num_classes": 2,
    "base_anchor_shapes": [[6, 8, 4], [8, 6, 5]],
    "backbone": "resnet10",
    "returned_layers": [1],
    "conv1_t_stride": [2, 2, 1],
    "score_thresh": 0.02,
    "nms_thresh": 0.22,
}
FGSM = AttackSettings(attack="fgsm", epsilon=20)


class Pyramid(nn.Module):
    """Three levels of two kinds of maps from an image; instance norm, so that each depends on the whole window."""

    def __init__(self, strides: Sequence[int]) -> None:
        super().__init__()
        torch.manual_seed(0)
        kind, norm = (nn.Conv3d, nn.InstanceNorm3d) if len(strides) == 3 else (nn.Conv2d, nn.InstanceNorm2d)
        axes = len(strides)
        self.first = nn.Sequential(kind(1, 3, tuple(strides), tuple(strides)), norm(3), nn.SiLU())
        self.deeper = nn.ModuleList(nn.Sequential(kind(3, 3, 2, 2), norm(3), nn.SiLU()) for _ in range(2))
        self.heads = nn.ModuleList(kind(3, channels, 1) for channels in (2, 2 * axes))

    def forward(self, images: Tensor) -> dict[str, list[Tensor]]:
        levels = [self.first(images)]
        for deeper in self.deeper:
            levels.append(deeper(levels[-1]))
        return {key: [head(level) for level in levels] for key, head in zip(KEYS, self.heads, strict=True)}


CASES = [
    # spatial, strides, window, overlap
    ((32, 24, 20), (2, 2, 1), (16, 16, 8), 0.25),
    ((40, 32, 28), (2, 2, 1), (16, 24, 12), 0.5),
    ((16, 32, 12), (2, 2, 1), (32, 16, 8), 0.25),  # smaller than the window along x: padded by 8, and cut off again
    ((8, 8, 8), (2, 2, 1), (24, 16, 12), 0.25),  # smaller throughout: MONAI rounds what it cuts off
    ((44, 36, 26), (2, 2, 1), (16, 16, 8), 0.3),  # windows start between two cells of the coarser levels
    ((50, 41), (2, 4), (16, 32), 0.4),
]


@pytest.mark.parametrize(("spatial", "strides", "window", "overlap"), CASES)
@pytest.mark.parametrize("mode", ["constant", "gaussian"])
@pytest.mark.parametrize("batch", [1, 3])
def test_maps_and_gradients_are_monais(
    spatial: tuple[int, ...], strides: tuple[int, ...], window: tuple[int, ...], overlap: float, mode: str, batch: int
) -> None:
    network = Pyramid(strides).double().eval()
    images = torch.rand(2, 1, *spatial, generator=torch.Generator().manual_seed(1), dtype=torch.float64).requires_grad_()
    inferer = SlidingWindowInferer(window, batch, overlap, mode)
    expected = predict_with_inferer(images, network, list(KEYS), inferer)
    found = SlidingMaps(network, KEYS, window, overlap, mode, batch)(images)
    weighted = []
    for key in KEYS:
        assert [each.shape for each in found[key]] == [each.shape for each in expected[key]]
        for ours, monais in zip(found[key], expected[key], strict=True):
            assert torch.allclose(ours, monais, rtol=1e-12, atol=1e-13)
            weighted.append(torch.rand(ours.shape, generator=torch.Generator().manual_seed(2), dtype=torch.float64))
    values = [sum((m.tanh() * w).sum() for m, w in zip([*x[KEYS[0]], *x[KEYS[1]]], weighted, strict=True)) for x in (found, expected)]
    ours, monais = (torch.autograd.grad(value, images)[0] for value in values)
    assert float((ours - monais).norm() / monais.norm()) < 1e-12


def _weight_gradient(network: nn.Module, maps: dict[str, list[Tensor]]) -> Tensor:
    value = torch.stack([level.tanh().sum() for key in KEYS for level in maps[key]]).sum()
    return torch.cat([each.flatten() for each in torch.autograd.grad(value, list(network.parameters()))])


def test_in_training_the_gradient_of_the_weights_is_that_through_monai() -> None:
    """A hardening trains detectors that answer through windows; images need no gradient there."""
    network = Pyramid((2, 2, 1)).double().train()
    images = torch.rand(2, 1, 40, 32, 28, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    ours = SlidingMaps(network, KEYS, (16, 24, 12), 0.5, "gaussian", 3).train()(images)
    monais = predict_with_inferer(images, network, list(KEYS), SlidingWindowInferer((16, 24, 12), 3, 0.5, "gaussian"))
    found, expected = (_weight_gradient(network, maps) for maps in (ours, monais))
    assert float((found - expected).norm() / expected.norm()) < 1e-10


def detector() -> RetinaNetDetector:
    torch.manual_seed(0)
    made = retinanet(**ARGUMENTS)
    # Untrained, it takes everything for background.
    nn.init.zeros_(made.network.classification_head.cls_logits.bias)
    return made.eval()


def volumes(spatial: Sequence[int]) -> Tensor:
    return torch.randint(-1000, 400, (2, 1, *spatial), generator=torch.Generator().manual_seed(1)).float()


def loaded(folder: Path, **changes: Any) -> MonaiDetector:
    save_file(detector().state_dict(), folder / "w.safetensors")
    values = {"network": "monai:retinanet", "arguments": ARGUMENTS, "weights": "w.safetensors", "normalize": {"window": [-1000, 400]}}
    settings = VictimSettings.model_validate({**values, **changes})
    victim = VictimRequest(settings, "detection", folder, x_first=True).load(torch.device("cpu"), (1, 16, 16, 8)).scored
    assert isinstance(victim, MonaiDetector)
    return victim


@pytest.mark.parametrize("spatial", [(24, 16, 12), (24, 8, 8)])
def test_boxes_are_those_of_the_deployed_detector(tmp_path: Path, spatial: tuple[int, ...]) -> None:
    """Deployed as MONAI's tutorials and its LUNA16 bundle do: in one pass what has fewer voxels than a window."""
    victim = loaded(tmp_path, window=[16, 16, 8], overlap=0.25, window_batch=1)
    reference = detector()
    reference.set_target_keys(box_key="box", label_key="label")
    reference.set_sliding_window_inferer((16, 16, 8), overlap=0.25, sw_batch_size=1, mode="constant", device="cpu")
    images = volumes(spatial)
    with torch.no_grad():
        inputs = Window(-1000, 400)(images)
        larger = inputs[0, 0].numel() >= 16 * 16 * 8
        expected = reference(inputs, use_inferer=larger)
    found = victim.predict(images)
    assert (larger, len(found)) == (spatial[1] == 16, 2)
    for ours, monais in zip(found, expected, strict=True):
        assert isinstance(ours.answer, Boxes)
        assert len(ours.answer.boxes) > 3
        assert np.allclose(ours.answer.boxes, monais["box"], atol=1e-4)
        assert np.allclose(ours.answer.scores, monais["label_scores"], atol=1e-6)
        assert np.array_equal(ours.answer.classes, monais["label"] + 1)


class Reference(MonaiDetector):
    """The same victim, whose maps are stitched by MONAI, with autograd through it."""

    def _maps(self, batch: Tensor, voxels: int) -> Any:
        sliding = self.network.network
        assert isinstance(sliding, SlidingMaps)
        inferer = SlidingWindowInferer(sliding.window, sliding.batch, sliding.overlap, sliding.mode)
        return predict_with_inferer(batch, sliding.network.network, list(sliding.keys), inferer)


def test_losses_gradients_and_attacks_are_those_through_monais_windows(tmp_path: Path) -> None:
    victim = loaded(tmp_path, window=[16, 16, 8], overlap=0.25, window_batch=2)
    reference = Reference(**vars(victim))
    images = volumes((22, 16, 8))
    truth = [Boxes.of([[3, 4, 1, 11, 12, 6], [12, 8, 2, 18, 14, 7]], [1, 2], dims=3), Boxes.of([], [], dims=3)]
    targets = victim.targets(truth, torch.device("cpu"))
    # A padded volume: its lengths are no multiples of the detector's strides.
    assert preprocess_images(images, 3, victim.network.size_divisible)[0].shape[2:] == (24, 16, 8)
    found, expected = [], []
    for kind, kept in ((victim, found), (reference, expected)):
        inputs = images.clone().requires_grad_()
        loss = kind.deviation(kind.forward(inputs), targets, FGSM)
        kept += [loss.detach(), *torch.autograd.grad(loss.sum(), inputs)]
    assert torch.allclose(found[0], expected[0], rtol=1e-5)
    assert float((found[1] - expected[1]).norm() / expected[1].norm()) < 1e-4
    deltas = [perturb(kind, images, targets, FGSM, lattice=LATTICES["hu"], seeds=[1, 2]) for kind in (victim, reference)]
    assert (deltas[0] == deltas[1]).float().mean() > 0.99


def test_the_network_never_sees_more_than_a_batch_of_windows(tmp_path: Path) -> None:
    victim = loaded(tmp_path, window=[16, 16, 8], window_batch=2)
    seen: list[tuple[list[int], bool]] = []
    (inner,) = victim.heavy_parts()
    inner.register_forward_hook(lambda _, inputs, outputs: seen.append((list(inputs[0].shape), outputs[KEYS[0]][0].requires_grad)))
    for parameter in inner.parameters():
        parameter.requires_grad_(False)
    images = volumes((24, 16, 12)).requires_grad_()
    victim.forward(images).head["cls_logits"].sum().backward()
    forward = [([2, 1, 16, 16, 8], False)] * 4
    assert seen == forward + [(shape, True) for shape, _ in forward]


def test_a_detector_with_windows_is_tried_on_one(tmp_path: Path) -> None:
    victim = loaded(tmp_path, window=[16, 16, 8])
    assert victim.network_shape((1, 64, 64, 40)) == (1, 16, 16, 8)
    assert isinstance(victim.module, Normalized)


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"window": [32, 32]}, "needs 3 lengths"),
        ({"window": [16, 16, 7]}, r"7 is no multiple of size_divisible=\[8, 8, 4\]"),
        ({"window": [16, 16, 8], "window_places": "nnunet"}, "window_places=nnunet is for voxel-wise answers"),
        ({"mirror": [0]}, "victim.mirror is for voxel-wise answers"),
    ],
)
def test_windows_that_a_detector_cannot_have(tmp_path: Path, changes: dict[str, Any], said: str) -> None:
    with pytest.raises(SpecError, match=said):
        loaded(tmp_path, **changes)
