"""MONAI's RetinaNet by a few arguments."""

from collections.abc import Sequence

from monai.apps.detection.networks.retinanet_detector import RetinaNetDetector
from monai.apps.detection.networks.retinanet_network import RetinaNet, resnet_fpn_feature_extractor
from monai.apps.detection.utils.anchor_utils import AnchorGeneratorWithAnchorShape
from monai.networks.nets import resnet10, resnet18, resnet50

BACKBONES = {"resnet10": resnet10, "resnet18": resnet18, "resnet50": resnet50}
ANCHORS_OF_ATSS = 4


def retinanet(
    spatial_dims: int,
    in_channels: int,
    num_classes: int,
    base_anchor_shapes: Sequence[Sequence[float]],
    backbone: str = "resnet18",
    returned_layers: Sequence[int] = (1, 2),
    conv1_t_stride: int = 1,
) -> RetinaNetDetector:
    """RetinaNet (Lin et al., ICCV 2017) with a feature pyramid, ATSS matching and no sampling, as in MONAI's detection tutorials.

    num_classes: without background, as MONAI counts.  base_anchor_shapes: sides of each anchor on the finest level, in voxels along the
    tensor's axes.  returned_layers: residual stages that feed the pyramid.  conv1_t_stride: stride of the first convolution.
    """
    body = BACKBONES[backbone](spatial_dims=spatial_dims, n_input_channels=in_channels, conv1_t_stride=conv1_t_stride, conv1_t_size=7)
    layers = list(returned_layers)
    extractor = resnet_fpn_feature_extractor(body, spatial_dims, pretrained_backbone=False, returned_layers=layers)
    anchors = AnchorGeneratorWithAnchorShape(
        feature_map_scales=[2**level for level in range(len(layers) + 1)], base_anchor_shapes=[list(shape) for shape in base_anchor_shapes]
    )
    network = RetinaNet(
        spatial_dims=spatial_dims,
        num_classes=num_classes,
        num_anchors=anchors.num_anchors_per_location()[0],
        feature_extractor=extractor,
        size_divisible=[conv1_t_stride * 2 * 2 ** max(layers)] * spatial_dims,
    )
    detector = RetinaNetDetector(network=network, anchor_generator=anchors)
    detector.set_atss_matcher(num_candidates=ANCHORS_OF_ATSS, center_in_gt=False)
    return detector
