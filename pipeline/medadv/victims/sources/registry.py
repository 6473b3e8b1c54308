"""Networks by registered name: everything a run spec or a victim's card can ask for without running foreign code.

No network built here downloads weights, and none normalises its own input: the victim around it does. Another kind of source, beside
networks by name, is a branch in `victims/loading.py`.
"""

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any

import torchvision
from torch import nn
from torchvision.models.detection import FCOS, RetinaNet
from torchvision.models.detection.anchor_utils import AnchorGenerator
from torchvision.models.detection.backbone_utils import BackboneWithFPN
from torchvision.models.detection.retinanet import RetinaNetHead
from torchvision.models.resnet import BasicBlock, ResNet
from torchvision.ops.feature_pyramid_network import LastLevelP6P7

from medadv.common.errors import MedadvError, SpecError, named_line
from medadv.victims.sources.dynamic_networks import nnunet_network
from medadv.victims.sources.monai_networks import MONAI_NETWORKS
from medadv.victims.sources.other_libraries import smp_network, timm_network

Build = Callable[..., nn.Module]
DOWNLOADS = frozenset(
    {"pretrained", "pretrained_backbone", "pretrained_cfg", "pretrained_cfg_overlay", "pretrained_url"}
    | {"weights", "weights_backbone", "encoder_weights", "checkpoint_path"}
)
"""Arguments of MONAI, torchvision, timm and smp that fetch weights, or read a file of them, which timm before 1.0.26 does by unpickling."""
RESNET10_BLOCKS, RESNET18_BLOCKS = (1, 1, 1, 1), (2, 2, 2, 2)
BACKBONE_GROUPS = 8
HEAD_GROUPS = 32
ANCHOR_SCALES = (1.0, 2 ** (1 / 3), 2 ** (2 / 3))
ANCHOR_ASPECT_RATIOS = (0.5, 1.0, 2.0)
ANCHOR_SIZES = (16.0, 32.0, 64.0, 128.0, 256.0)
"""Twice the stride of each pyramid level: half of RetinaNet's own sizes, for images of 100 to 300 pixels."""


def build_network(name: str, arguments: Mapping[str, Any]) -> nn.Module:
    """An untrained network.

    name: `monai:NAME` for a network of monai.networks.nets, in its own spelling or in lower case; `torchvision:NAME` for a model of
    torchvision or one of the small detectors of this module; `timm:NAME`; `smp:NAME` for an architecture of segmentation-models-pytorch;
    `nnunet:NAME` for a network that nnU-Net plans.
    arguments: its keyword arguments, JSON values only.

    Raises SpecError for an unknown name, a package that is not installed, or arguments that the network does not take.
    """
    if downloads := sorted(key for key in DOWNLOADS & arguments.keys() if arguments[key]):
        raise SpecError(
            f"network {name!r}: argument {downloads[0]!r} would download weights, or read them; give a file as victim.weights instead"
        )
    if ":" in str(encoder := arguments.get("encoder_name", "")):
        # smp gives what follows `tu-` to timm, which takes `hf-hub:…` and `local-dir:…` for places to read a network from.
        raise SpecError(f"network {name!r}: encoder_name={encoder!r} would be fetched; name an encoder of smp, or tu-NAME of timm")
    given = {key: value for key, value in arguments.items() if key not in DOWNLOADS}
    family, _, short = name.partition(":")
    build = FAMILIES[family](short) if family in FAMILIES else None
    if build is None:
        raise SpecError(
            f"unknown network {name!r}; known are {', '.join(f'monai:{key}' for key in MONAI_NETWORKS)}, "
            f"{', '.join(f'torchvision:{key}' for key in SMALL_DETECTORS)}, nnunet:PlainConvUNet, nnunet:ResidualEncoderUNet, "
            "and every model of torchvision, timm and smp by its name there"
        )
    try:
        return build(**given)
    except MedadvError:
        raise
    except Exception as error:  # libraries look at few of their arguments, and meet the rest as they go
        raise SpecError(f"network {name!r} does not take the arguments {dict(arguments)!r} ({named_line(error)})") from error


def fcos_resnet18_fpn_gn(num_classes: int, size: int, channels: int = 256) -> FCOS:
    """FCOS (Tian et al., ICCV 2019) on a small backbone.

    num_classes counts the background.  size: side of the square input in pixels; inputs of that size are not resized.
    channels: width of the pyramid and the head, a multiple of 32.
    """
    return _fcos(num_classes, size, channels, RESNET18_BLOCKS)


def fcos_resnet10_fpn_gn(num_classes: int, size: int, channels: int = 64) -> FCOS:
    """The same with half as many residual blocks, and narrower: trains in a minute or two; arguments as above."""
    return _fcos(num_classes, size, channels, RESNET10_BLOCKS)


def _fcos(num_classes: int, size: int, channels: int, blocks: Sequence[int]) -> FCOS:
    if channels % HEAD_GROUPS:
        raise ValueError(f"channels={channels} must be a multiple of {HEAD_GROUPS}, the groups of the head's normalisation")
    backbone = _resnet_fpn_gn(channels, blocks)
    return FCOS(backbone, num_classes, min_size=size, max_size=size, image_mean=[0.0] * 3, image_std=[1.0] * 3)


def retinanet_resnet18_fpn_gn(num_classes: int, size: int) -> RetinaNet:
    """RetinaNet (Lin et al., ICCV 2017) on the same backbone, with anchors for small images; arguments as for FCOS."""
    anchors = AnchorGenerator(
        sizes=tuple(tuple(side * scale for scale in ANCHOR_SCALES) for side in ANCHOR_SIZES),
        aspect_ratios=(ANCHOR_ASPECT_RATIOS,) * len(ANCHOR_SIZES),
    )
    backbone = _resnet_fpn_gn(256, RESNET18_BLOCKS)
    head = RetinaNetHead(
        backbone.out_channels,
        anchors.num_anchors_per_location()[0],
        num_classes,
        norm_layer=partial(nn.GroupNorm, HEAD_GROUPS),
    )
    return RetinaNet(
        backbone,
        num_classes,
        min_size=size,
        max_size=size,
        image_mean=[0.0] * 3,
        image_std=[1.0] * 3,
        anchor_generator=anchors,
        head=head,
    )


def _resnet_fpn_gn(channels: int, blocks: Sequence[int]) -> BackboneWithFPN:
    """A small ResNet with feature maps at strides 8 to 128.

    Group instead of batch normalisation: batches of a few images made detectors trained from scratch collapse to constant boxes.
    """
    return BackboneWithFPN(
        ResNet(BasicBlock, list(blocks), norm_layer=partial(nn.GroupNorm, BACKBONE_GROUPS)),
        return_layers={"layer2": "0", "layer3": "1", "layer4": "2"},
        in_channels_list=[128, 256, 512],
        out_channels=channels,
        extra_blocks=LastLevelP6P7(channels, channels),
    )


def _torchvision(name: str) -> Build | None:
    if name in SMALL_DETECTORS:
        return SMALL_DETECTORS[name]
    return partial(_torchvision_model, name) if name in torchvision.models.list_models() else None


def _torchvision_model(name: str, **arguments: Any) -> nn.Module:
    without_weights: dict[str, None] = {"weights": None}
    if name in torchvision.models.list_models(module=torchvision.models.detection) or name in torchvision.models.list_models(
        module=torchvision.models.segmentation
    ):
        without_weights["weights_backbone"] = None
    return torchvision.models.get_model(name, **without_weights, **arguments)


SMALL_DETECTORS: dict[str, Callable[..., nn.Module]] = {
    "fcos_resnet10_fpn_gn": fcos_resnet10_fpn_gn,
    "fcos_resnet18_fpn_gn": fcos_resnet18_fpn_gn,
    "retinanet_resnet18_fpn_gn": retinanet_resnet18_fpn_gn,
}
FAMILIES: dict[str, Callable[[str], Build | None]] = {
    "monai": lambda name: MONAI_NETWORKS.get(name.lower()),
    "torchvision": _torchvision,
    "timm": timm_network,
    "smp": smp_network,
    "nnunet": nnunet_network,
}
