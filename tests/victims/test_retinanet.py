"""MONAI's RetinaNet by plain arguments: the detector of the LUNA16 bundle, said in JSON, is the one that its configuration builds."""

from pathlib import Path
from typing import Any

import pytest
import torch
from monai.apps.detection.networks.retinanet_detector import RetinaNetDetector
from monai.apps.detection.networks.retinanet_network import RetinaNet, resnet_fpn_feature_extractor
from monai.apps.detection.utils.anchor_utils import AnchorGeneratorWithAnchorShape
from monai.networks.nets import resnet50

from medadv.common.errors import SpecError
from medadv.spec.victim import VictimSettings
from medadv.victims.loading import VictimRequest
from medadv.victims.sources.registry import build_network

SHAPES = [[6, 8, 4], [8, 6, 5], [10, 10, 6]]
LUNA: dict[str, Any] = {
    "spatial_dims": 3,
    "in_channels": 1,
    "num_classes": 1,
    "base_anchor_shapes": SHAPES,
    "feature_map_scales": [1, 2, 4],
    "backbone": "resnet50",
    "returned_layers": [1, 2],
    "conv1_t_stride": [2, 2, 1],
    "conv1_t_size": [7, 7, 7],
    "size_divisible": [16, 16, 8],
    "matcher": {"atss": {"num_candidates": 4, "center_in_gt": False}},
    "sampler": {"hard_negative": {"batch_size_per_image": 64, "positive_fraction": 0.3, "pool_size": 20, "min_neg": 16}},
    "score_thresh": 0.02,
    "topk_candidates_per_level": 1000,
    "nms_thresh": 0.22,
    "detections_per_img": 300,
}


def luna() -> RetinaNetDetector:
    """As configs/inference.json and train.json of the bundle build it."""
    body = resnet50(spatial_dims=3, n_input_channels=1, conv1_t_stride=[2, 2, 1], conv1_t_size=[7, 7, 7])
    features = resnet_fpn_feature_extractor(body, 3, False, [1, 2], None)
    anchors = AnchorGeneratorWithAnchorShape(feature_map_scales=[1, 2, 4], base_anchor_shapes=SHAPES)
    network = RetinaNet(spatial_dims=3, num_classes=1, num_anchors=3, feature_extractor=features, size_divisible=[16, 16, 8])
    detector = RetinaNetDetector(network=network, anchor_generator=anchors)
    detector.set_atss_matcher(num_candidates=4, center_in_gt=False)
    detector.set_hard_negative_sampler(batch_size_per_image=64, positive_fraction=0.3, pool_size=20, min_neg=16)
    detector.set_box_selector_parameters(score_thresh=0.02, topk_candidates_per_level=1000, nms_thresh=0.22, detections_per_img=300)
    return detector


def test_the_luna16_detector_in_plain_arguments(tmp_path: Path) -> None:
    """From the weights of the network alone, as a bundle keeps them; target keys are the victim's business."""
    torch.manual_seed(0)
    expected = luna().eval()
    torch.save(expected.network.state_dict(), tmp_path / "model.pt")
    values = {"network": "monai:RetinaNet", "arguments": LUNA, "weights": "model.pt", "normalize": {"window": [-1024, 300]}}
    victim = VictimRequest(VictimSettings.model_validate(values), "detection", tmp_path, x_first=True).load(torch.device("cpu")).scored
    found: Any = victim.network  # type: ignore[attr-defined]
    images = torch.rand(1, 1, 32, 32, 16, generator=torch.Generator().manual_seed(1))
    with torch.no_grad():
        (ours,), (monais,) = found(images), expected(images)
    assert ours.keys() == monais.keys()
    assert all(torch.equal(ours[key], monais[key]) for key in ours)
    assert found.size_divisible == (16, 16, 8)
    for part in ("box_selector", "proposal_matcher", "fg_bg_sampler"):
        mine, theirs = vars(getattr(found, part)), vars(getattr(expected, part))
        assert {key: value for key, value in mine.items() if key[0] != "_"} == {k: v for k, v in theirs.items() if k[0] != "_"}


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"matcher": {"hungarian": {}}}, "matcher names hungarian; it is a mapping of one of atss, regular"),
        ({"matcher": {"regular": {"iou": 1}}}, "iou"),
        ({"sampler": {"balanced": {}, "hard_negative": {}}}, "sampler names balanced, hard_negative"),
        ({"feature_map_scales": [1, 2]}, "needs a factor for each of 3 levels"),
        ({"backbone": "vgg"}, "must be one of resnet10"),
        ({"conv1_t_stride": [2, 2]}, "length 3"),
    ],
)
def test_arguments_that_are_none(changes: dict[str, Any], said: str) -> None:
    with pytest.raises(SpecError, match=said):
        build_network("monai:retinanet", {**LUNA, "backbone": "resnet10", **changes})
