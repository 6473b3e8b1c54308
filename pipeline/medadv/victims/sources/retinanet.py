"""MONAI's RetinaNet by plain arguments: anchors, backbone, matcher, sampler and box selector."""

from collections.abc import Mapping, Sequence
from typing import Any

from monai.apps.detection.networks.retinanet_detector import RetinaNetDetector
from monai.apps.detection.networks.retinanet_network import RetinaNet, resnet_fpn_feature_extractor
from monai.apps.detection.utils.anchor_utils import AnchorGeneratorWithAnchorShape
from monai.networks.nets import resnet10, resnet18, resnet34, resnet50, resnet101, resnet152, resnet200
from monai.utils.misc import ensure_tuple_rep

BACKBONES = {
    "resnet10": resnet10,
    "resnet18": resnet18,
    "resnet34": resnet34,
    "resnet50": resnet50,
    "resnet101": resnet101,
    "resnet152": resnet152,
    "resnet200": resnet200,
}
ANCHORS_OF_ATSS = 4
MATCHERS = {"atss": "set_atss_matcher", "regular": "set_regular_matcher"}
SAMPLERS = {"hard_negative": "set_hard_negative_sampler", "balanced": "set_balanced_sampler"}


def retinanet(
    spatial_dims: int,
    in_channels: int,
    num_classes: int,
    base_anchor_shapes: Sequence[Sequence[float]],
    backbone: str = "resnet18",
    returned_layers: Sequence[int] = (1, 2),
    conv1_t_stride: int | Sequence[int] = 1,
    conv1_t_size: int | Sequence[int] = 7,
    feature_map_scales: Sequence[float] | None = None,
    size_divisible: int | Sequence[int] | None = None,
    matcher: Mapping[str, Mapping[str, Any]] | None = None,
    sampler: Mapping[str, Mapping[str, Any]] | None = None,
    score_thresh: float = 0.05,
    topk_candidates_per_level: int = 1000,
    nms_thresh: float = 0.5,
    detections_per_img: int = 300,
) -> RetinaNetDetector:
    """RetinaNet (Lin et al., ICCV 2017) with a feature pyramid; the defaults are ATSS matching and no sampling, as in MONAI's tutorials.

    num_classes: without background, as MONAI counts.  base_anchor_shapes: sides of each anchor on the finest level, in voxels along the
    tensor's axes.  returned_layers: residual stages that feed the pyramid.  conv1_t_stride, conv1_t_size: of the first convolution, one
    number or one an axis.  feature_map_scales: factor of the anchors of each level, 1, 2, 4, … by default.  size_divisible: images are
    padded at their ends to multiples of it; by default the stride of the coarsest residual stage.  matcher: `{atss: {num_candidates,
    center_in_gt}}` or `{regular: {fg_iou_thresh, bg_iou_thresh, allow_low_quality_matches}}`, sampler: `{hard_negative:
    {batch_size_per_image, positive_fraction, min_neg, pool_size}}` or `{balanced: {batch_size_per_image, positive_fraction}}`, both of the
    loss that is attacked, with the arguments of MONAI's setters.  The last four are MONAI's box selector.

    Raises ValueError, TypeError: arguments that MONAI, or no matcher or sampler, takes.
    """
    strides, layers = ensure_tuple_rep(conv1_t_stride, spatial_dims), list(returned_layers)
    if backbone not in BACKBONES:
        raise ValueError(f"backbone={backbone!r} must be one of {', '.join(BACKBONES)}")
    body = BACKBONES[backbone](
        spatial_dims=spatial_dims,
        n_input_channels=in_channels,
        conv1_t_stride=strides,
        conv1_t_size=ensure_tuple_rep(conv1_t_size, spatial_dims),
    )
    scales = [2**level for level in range(len(layers) + 1)] if feature_map_scales is None else list(feature_map_scales)
    if len(scales) != len(layers) + 1:
        raise ValueError(f"feature_map_scales={scales} needs a factor for each of {len(layers) + 1} levels, one more than returned_layers")
    anchors = AnchorGeneratorWithAnchorShape(feature_map_scales=scales, base_anchor_shapes=[list(shape) for shape in base_anchor_shapes])
    network = RetinaNet(
        spatial_dims=spatial_dims,
        num_classes=num_classes,
        num_anchors=anchors.num_anchors_per_location()[0],
        feature_extractor=resnet_fpn_feature_extractor(body, spatial_dims, pretrained_backbone=False, returned_layers=layers),
        size_divisible=[stride * 2 * 2 ** max(layers) for stride in strides] if size_divisible is None else size_divisible,
    )
    detector = RetinaNetDetector(network=network, anchor_generator=anchors)
    _set(detector, "matcher", matcher or {"atss": {"num_candidates": ANCHORS_OF_ATSS, "center_in_gt": False}}, MATCHERS)
    if sampler:
        _set(detector, "sampler", sampler, SAMPLERS)
    detector.set_box_selector_parameters(
        score_thresh=score_thresh,
        topk_candidates_per_level=topk_candidates_per_level,
        nms_thresh=nms_thresh,
        detections_per_img=detections_per_img,
    )
    return detector


def _set(detector: RetinaNetDetector, what: str, chosen: Mapping[str, Mapping[str, Any]], setters: Mapping[str, str]) -> None:
    """Call the one setter of the detector that is named."""
    if len(chosen) != 1 or not chosen.keys() <= setters.keys():
        raise ValueError(f"{what} names {', '.join(chosen) or 'nothing'}; it is a mapping of one of {', '.join(setters)} to its arguments")
    ((name, arguments),) = chosen.items()
    getattr(detector, setters[name])(**arguments)
