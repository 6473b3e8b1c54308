"""MONAI's RetinaNet by a few arguments."""

from collections.abc import Sequence

from monai.apps.detection.networks.retinanet_detector import RetinaNetDetector
from monai.apps.detection.networks.retinanet_network import RetinaNet, resnet_fpn_feature_extractor
from monai.apps.detection.utils.anchor_utils import AnchorGeneratorWithAnchorShape
from monai.networks.nets import resnet10, resnet18, resnet34, resnet50, resnet101

BACKBONES = {"resnet10": resnet10, "resnet18": resnet18, "resnet34": resnet34, "resnet50": resnet50, "resnet101": resnet101}
ANCHORS_OF_ATSS = 4


def retinanet(
    spatial_dims: int,
    in_channels: int,
    num_classes: int,
    base_anchor_shapes: Sequence[Sequence[float]],
    backbone: str = "resnet18",
    returned_layers: Sequence[int] = (1, 2),
    conv1_t_stride: int | Sequence[int] = 1,
    conv1_t_size: int | Sequence[int] = 7,
    feature_map_scales: Sequence[int] | None = None,
    size_divisible: int | Sequence[int] | None = None,
    box_coder_weights: Sequence[float] | None = None,
    score_thresh: float = 0.05,
    topk_candidates_per_level: int = 1000,
    nms_thresh: float = 0.5,
    detections_per_img: int = 300,
) -> RetinaNetDetector:
    """RetinaNet (Lin et al., ICCV 2017) with a feature pyramid, ATSS matching and no sampling, as in MONAI's detection tutorials.

    num_classes: without background, as MONAI counts.  base_anchor_shapes: sides of each anchor on the finest level, in voxels along the
    tensor's axes.  returned_layers: residual stages that feed the pyramid.  conv1_t_stride, conv1_t_size: of the first convolution.
    feature_map_scales: of the anchors on each level, powers of 2 unless given.  size_divisible: what lengths of an image are padded to
    multiples of, which follows from the strides unless given.  The rest as RetinaNetDetector's setters have it.
    """
    body = BACKBONES[backbone](
        spatial_dims=spatial_dims, n_input_channels=in_channels, conv1_t_stride=conv1_t_stride, conv1_t_size=conv1_t_size
    )
    layers = list(returned_layers)
    extractor = resnet_fpn_feature_extractor(body, spatial_dims, pretrained_backbone=False, returned_layers=layers)
    anchors = AnchorGeneratorWithAnchorShape(
        feature_map_scales=list(feature_map_scales or [2**level for level in range(len(layers) + 1)]),
        base_anchor_shapes=[list(shape) for shape in base_anchor_shapes],
    )
    strides = [conv1_t_stride] * spatial_dims if isinstance(conv1_t_stride, int) else list(conv1_t_stride)
    network = RetinaNet(
        spatial_dims=spatial_dims,
        num_classes=num_classes,
        num_anchors=anchors.num_anchors_per_location()[0],
        feature_extractor=extractor,
        size_divisible=size_divisible or [stride * 2 * 2 ** max(layers) for stride in strides],
    )
    detector = RetinaNetDetector(network=network, anchor_generator=anchors)
    detector.set_atss_matcher(num_candidates=ANCHORS_OF_ATSS, center_in_gt=False)
    detector.set_box_selector_parameters(
        score_thresh=score_thresh,
        topk_candidates_per_level=topk_candidates_per_level,
        nms_thresh=nms_thresh,
        detections_per_img=detections_per_img,
    )
    if box_coder_weights is not None:
        detector.set_box_coder_weights(tuple(box_coder_weights))
    return detector
