"""Detectors of torchvision and MONAI: losses are their own, the stabilization term is dense, nothing is left behind."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from monai.apps.detection.networks.retinanet_detector import RetinaNetDetector
from monai.apps.detection.utils.anchor_utils import AnchorGeneratorWithAnchorShape
from safetensors.torch import save_file
from torch import Tensor, nn
from torchvision.models.detection import FCOS
from torchvision.models.detection.faster_rcnn import FasterRCNN
from torchvision.models.detection.rpn import AnchorGenerator
from torchvision.ops import MultiScaleRoIAlign

from medadv.attacks.engine import perturb
from medadv.common.errors import SpecError
from medadv.common.hashing import seed_of
from medadv.datasets.labels import Boxes, Prediction
from medadv.spec.attack import AttackSettings
from medadv.spec.victim import VictimSettings
from medadv.victims.inputs.normalized import Normalized
from medadv.victims.loading import VictimRequest
from medadv.victims.sources.registry import fcos_resnet18_fpn_gn, retinanet_resnet18_fpn_gn
from medadv.victims.sources.retinanet import retinanet
from medadv.victims.tasks.detection import Detector, reversed_axes
from medadv.victims.tasks.detection_monai import MonaiDetector, anchors_of, by_anchor
from medadv.victims.tasks.training_mode import NORMALISERS
from medadv_transforms.normalize import Normalize, Window
from medadv_transforms.units import LATTICES

SIZE = 64
SMIA = AttackSettings(attack="smia", epsilon=8, step=2, steps=2)
TRUTHS = [Boxes.of([[8, 10, 40, 30], [20, 30, 60, 62]], [1, 1]), Boxes.of([], [])]
LEVEL8 = LATTICES["level8"]


def faster_rcnn() -> FasterRCNN:
    """Two stages on three convolutions, with batch-norm and dropout to catch a training mode that goes too far."""
    body = nn.Sequential(nn.Conv2d(3, 16, 3, 4, 1), nn.BatchNorm2d(16), nn.ReLU(), nn.Dropout(0.5), nn.Conv2d(16, 16, 3, 2, 1))
    body.out_channels = 16
    anchors = AnchorGenerator(((16, 32),), ((1.0,),))
    model = FasterRCNN(
        body,
        2,
        min_size=SIZE,
        max_size=SIZE,
        image_mean=[0.0] * 3,
        image_std=[1.0] * 3,
        rpn_anchor_generator=anchors,
        box_roi_pool=MultiScaleRoIAlign(["0"], 3, 1),
        box_score_thresh=0.01,
    )
    return model


def monai_2d() -> nn.Module:
    return retinanet(2, 3, 1, [[16, 16], [32, 24]], backbone="resnet10", conv1_t_stride=2)


BUILDERS: dict[str, Any] = {
    "fcos": lambda: fcos_resnet18_fpn_gn(2, SIZE, 64),
    "retinanet": lambda: retinanet_resnet18_fpn_gn(2, SIZE),
    "faster_rcnn": faster_rcnn,
    "monai": monai_2d,
}


def victim_of(kind: str, seed: int = 0) -> Detector:
    torch.manual_seed(seed)
    module = Normalized(Normalize([0.5] * 3, [0.25] * 3), BUILDERS[kind]()).eval()
    return MonaiDetector(module, 2, 0.3, reverse=True) if kind == "monai" else Detector(module, 2, 0.3)


def pictures(n: int = 2, seed: int = 0) -> Tensor:
    return torch.randint(0, 256, (n, 3, SIZE, SIZE), generator=torch.Generator().manual_seed(seed)).float()


def own_loss(victim: Detector, image: Tensor, target: dict[str, Tensor]) -> Tensor:
    """The detector's loss on a batch of one, as its makers call it: training mode, but batch-norm and dropout in evaluation mode."""
    network = victim.network.train()
    for part in network.modules():
        if isinstance(part, NORMALISERS):
            part.eval()
    normalized = victim.module.normalize(image[None])
    losses = network(normalized if isinstance(victim, MonaiDetector) else list(normalized), [target])
    network.eval()
    return sum(losses.values())


@pytest.mark.parametrize("kind", ["fcos", "retinanet", "monai"])
def test_deviation_is_the_detectors_own_loss_image_by_image(kind: str) -> None:
    victim, images = victim_of(kind), pictures()
    targets = victim.targets(TRUTHS, torch.device("cpu"))
    found = victim.deviation(victim.forward(images), targets, SMIA)
    expected = torch.stack([own_loss(victim, image, target) for image, target in zip(images, targets, strict=True)])
    assert found.shape == (2,)
    assert torch.allclose(found, expected, rtol=1e-5)


def test_two_stage_deviation_is_the_detectors_own_loss() -> None:
    """Anchors are sampled from the global generator: the same seed gives the same loss, twice, whatever was drawn before."""
    victim, images = victim_of("faster_rcnn"), pictures()
    targets = victim.targets(TRUTHS, torch.device("cpu"))
    first = victim.deviation(victim.forward(images), targets, SMIA)
    torch.rand(7)
    assert torch.equal(first, victim.deviation(victim.forward(images), targets, SMIA))
    for image, target, value in zip(images, targets, first, strict=True):
        torch.manual_seed(seed_of("anchors") % (1 << 63))
        assert torch.allclose(own_loss(victim, image, target), value, rtol=1e-5)


@pytest.mark.parametrize("kind", list(BUILDERS))
def test_attack_leaves_no_trace_and_moves_the_loss(kind: str) -> None:
    victim, images = victim_of(kind), pictures()
    targets = victim.targets(TRUTHS, torch.device("cpu"))
    state = {key: value.clone() for key, value in victim.module.state_dict().items()}
    modes = [part.training for part in victim.module.modules()]
    generator = torch.get_rng_state()
    first, again = (perturb(victim, images, targets, SMIA, lattice=LEVEL8, seeds=[1, 2]) for _ in range(2))
    victim.predict(images)
    assert torch.equal(first, again)
    assert torch.equal(generator, torch.get_rng_state())
    assert modes == [part.training for part in victim.module.modules()]
    assert all(torch.equal(state[key], value) for key, value in victim.module.state_dict().items())
    assert all(parameter.grad is None and parameter.requires_grad for parameter in victim.module.parameters())
    pgd = perturb(victim, images, targets, AttackSettings(attack="pgd", epsilon=8, step=2, steps=2), lattice=LEVEL8, seeds=[1, 2])
    with torch.no_grad():
        before, after = (victim.deviation(victim.forward(x), targets, SMIA) for x in (images, images + pgd))
    assert (after > before).all()
    assert first.flatten(1).any(1).all(), "an image without boxes is attacked too"


@pytest.mark.parametrize("kind", ["fcos", "retinanet", "monai"])
def test_dense_divergence(kind: str) -> None:
    """Zero for equal predictions, and by its formula for others: Bernoulli KL of the scores, smooth L1 of the deltas."""
    victim, images = victim_of(kind), pictures(1)
    a, b = victim.forward(images), victim.forward(pictures(1, seed=1))
    assert victim.divergence(a, a, SMIA).abs().max() < 1e-6
    p, q = a.head["cls_logits"].double().sigmoid(), b.head["cls_logits"].double().sigmoid()
    kl = (p * (p / q).log() + (1 - p) * ((1 - p) / (1 - q)).log()).sum()
    distance = (a.head["bbox_regression"] - b.head["bbox_regression"]).abs().double()
    smooth = torch.where(distance < 1, distance**2 / 2, distance - 0.5).mean(-1)
    weight = p.amax(-1)
    expected = (kl + (weight * smooth).sum()) / weight.sum().clamp(min=1)
    assert float(victim.divergence(a, b, SMIA).detach()) == pytest.approx(float(expected.detach()), rel=1e-4)


def test_pseudo_targets_of_two_stages_are_the_confident_answers() -> None:
    victim, images = victim_of("faster_rcnn"), pictures(1)
    normalized = victim.forward(images)
    (pseudo,) = victim._pseudo_targets(normalized.images)
    answer = victim.confident(victim.predict(images)[0])
    assert len(answer.boxes), "a victim that answers nothing would hide a wrong pseudo-target"
    assert np.allclose(pseudo["boxes"].detach(), answer.boxes)
    expected = victim.deviation(normalized, [pseudo], SMIA)
    assert torch.allclose(victim.divergence(normalized, normalized, SMIA), expected)


def test_axes_of_monai_boxes() -> None:
    """MONAI's boxes follow the tensor: (y, x) for photographs, where stored boxes have x first."""
    assert reversed_axes(torch.tensor([[1, 2, 3, 4]])).tolist() == [[2, 1, 4, 3]]
    assert reversed_axes(torch.tensor([[1, 2, 3, 4, 5, 6]])).tolist() == [[3, 2, 1, 6, 5, 4]]
    assert reversed_axes(torch.zeros(0, 6)).shape == (0, 6)
    victim = victim_of("monai")
    (target,) = victim.targets([Boxes.of([[8, 10, 40, 30]], [1])], torch.device("cpu"))
    assert target["boxes"].tolist() == [[10, 8, 30, 40]]
    assert target["labels"].tolist() == [0]


@pytest.mark.parametrize(("shapes", "spatial"), [([[16, 16], [32, 24]], (48, 80)), ([[8, 8, 6]], (16, 32, 24))])
def test_anchors_and_their_order_are_monais(shapes: list[list[int]], spatial: tuple[int, ...]) -> None:
    axes = len(spatial)
    detector = retinanet(axes, 1, 2, shapes, backbone="resnet10", conv1_t_stride=2).eval()
    batch = torch.rand(2, 1, *spatial, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        maps = detector.network(batch)
    classes = maps[detector.cls_key]
    for key in (detector.cls_key, detector.box_reg_key):
        assert torch.equal(by_anchor(maps[key], len(shapes)), detector._reshape_maps(maps[key]))
    found, (expected, _) = anchors_of(detector.anchor_generator, batch, classes), detector.anchor_generator(batch, classes)
    assert found.dtype == expected.dtype
    assert torch.equal(found, expected)
    assert len(found) == by_anchor(classes, len(shapes)).shape[1]


class OneAnchor(nn.Module):
    """Sure of one anchor in row 2, column 5 of a map of stride 8, of nothing else."""

    def forward(self, x: Tensor) -> dict[str, list[Tensor]]:
        scores = torch.full((len(x), 1, SIZE // 8, SIZE // 8), -9.0)
        scores[:, :, 2, 5] = 9.0
        return {"classification": [scores], "box_regression": [torch.zeros(len(x), 4, SIZE // 8, SIZE // 8)]}


def test_a_monai_box_comes_back_where_it_is_stored() -> None:
    """Rows are y: the anchor lies around x = 44, y = 20, and is 24 wide and 10 high."""
    anchors = AnchorGeneratorWithAnchorShape(feature_map_scales=[1], base_anchor_shapes=[[10, 24]])
    network = RetinaNetDetector(OneAnchor(), anchors, spatial_dims=2, num_classes=1)
    network.set_regular_matcher(0.6, 0.4)
    victim = MonaiDetector(Normalized(Normalize([0.5] * 3, [0.25] * 3), network).eval(), 2, 0.3, reverse=True)
    answer = victim.predict(pictures(1))[0].answer
    assert answer.boxes.tolist() == [[32, 15, 56, 25]]
    assert answer.classes.tolist() == [1]
    right, turned = (
        victim.deviation(victim.forward(pictures(1)), victim.targets([Boxes.of([box], [1])], torch.device("cpu")), SMIA)
        for box in ([32, 15, 56, 25], [15, 32, 25, 56])
    )
    assert right < 1e-3 < turned


def test_monai_detector_on_a_volume() -> None:
    torch.manual_seed(0)
    network = retinanet(3, 1, 2, [[12, 12, 8], [8, 8, 8]], backbone="resnet10", returned_layers=(1,))
    victim = MonaiDetector(Normalized(Window(-1000, 400), network).eval(), 3, 0.3)
    images = torch.randint(-1000, 400, (1, 1, 16, 16, 16), generator=torch.Generator().manual_seed(0)).float()
    targets = victim.targets([Boxes.of([[2, 2, 4, 14, 14, 12]], [2], dims=3)], torch.device("cpu"))
    found = perturb(victim, images, targets, SMIA, lattice=LATTICES["hu"], seeds=[1])
    assert 0 < found.abs().max() <= 8
    (empty,) = victim.targets([victim.as_label(Boxes.of([], []))], torch.device("cpu"))
    assert empty["boxes"].shape == (0, 6)
    with pytest.raises(ValueError, match="boxes have 4 coordinates, and the detector has 3 axes"):
        victim.as_label(Boxes.of([[0, 0, 5, 5]], [1]))
    assert victim.predict(images)[0].answer.boxes.shape[1] == 6


@pytest.mark.parametrize(("window", "x_first"), [(None, False), ([-1000, 400], True), ([0, 255], False), (None, True)])
def test_loading_a_monai_detector(tmp_path: Path, window: list[int] | None, x_first: bool) -> None:
    arguments = {"spatial_dims": 2, "in_channels": 3, "num_classes": 1, "base_anchor_shapes": [[16, 16], [32, 24]], "backbone": "resnet10"}
    save_file(retinanet(**arguments).state_dict(), tmp_path / "w.safetensors")
    normalize = {"window": window} if window else {"mean": [0.5] * 3, "std": [0.2] * 3}
    spec = {"network": "monai:retinanet", "arguments": arguments, "weights": "w.safetensors", "normalize": normalize}
    victim = VictimRequest(VictimSettings.model_validate(spec), "detection", tmp_path, x_first=x_first).load(torch.device("cpu")).scored
    assert isinstance(victim, MonaiDetector)
    # How images are stored says how boxes count axes; the normalisation does not.
    assert (victim.classes, victim.reverse) == (2, not x_first)


def test_windows_are_refused_for_torchvisions_detectors(tmp_path: Path) -> None:
    arguments = {"num_classes": 2, "size": 64}
    save_file(fcos_resnet18_fpn_gn(**arguments).state_dict(), tmp_path / "w.safetensors")
    spec = {"network": "torchvision:fcos_resnet18_fpn_gn", "arguments": arguments, "weights": "w.safetensors", "window": [32, 32]}
    settings = VictimSettings.model_validate({**spec, "normalize": {"window": [0, 255]}})
    with pytest.raises(SpecError, match="other detectors take whole images"):
        VictimRequest(settings, "detection", tmp_path).load(torch.device("cpu"))


def test_success_of_detection() -> None:
    victim = victim_of("fcos")
    right = Prediction(Boxes.of(TRUTHS[0].boxes[:1], [1], [0.9]))
    unsure = Prediction(Boxes.of(TRUTHS[0].boxes[:1], [1], [0.2]))
    nothing = Prediction(Boxes.of([], [], []))
    assert victim.succeeded(right, nothing, TRUTHS[0])
    assert victim.succeeded(right, unsure, TRUTHS[0])
    assert not victim.succeeded(right, right, TRUTHS[0])
    assert not victim.succeeded(nothing, nothing, TRUTHS[0]), "what was never found cannot be lost"
    assert victim.succeeded(nothing, right, TRUTHS[1]), "a box was invented"
    assert not victim.succeeded(right, right, TRUTHS[1])
    assert victim.own_label(right).scores is None


def test_labels_of_unknown_classes_are_refused() -> None:
    with pytest.raises(ValueError, match="not among the detector's 1 to 1"):
        victim_of("fcos").as_label(Boxes.of([[0, 0, 5, 5]], [2]))
    assert isinstance(victim_of("fcos").network, FCOS)
