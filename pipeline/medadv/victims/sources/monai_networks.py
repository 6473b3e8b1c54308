"""Which networks of MONAI can be built by name and plain arguments? Those that segment, classify or detect."""

import inspect
from collections.abc import Callable
from functools import partial

import monai.networks.nets as nets
from torch import nn

from medadv.victims.sources.dints import dints
from medadv.victims.sources.retinanet import retinanet
from medadv.victims.sources.vista3d import PromptedVista

SEGMENTATION = (
    *("AHNet", "AttentionUnet", "BasicUNet", "BasicUNetPlusPlus", "DAF3D", "DynUNet", "FlexibleUNet", "HighResNet", "HoVerNet"),
    *("MedNeXt", "MedNeXtSmall", "MedNextBase", "MedNeXtMedium", "MedNeXtLarge", "Quicknat", "SegResNet", "SegResNetDS", "SegResNetDS2"),
    *("SegResNetVAE", "SwinUNETR", "UNet", "UNETR", "VNet"),
)
CLASSIFICATION = (
    *("DenseNet", "DenseNet121", "DenseNet169", "DenseNet201", "DenseNet264", "EfficientNet", "EfficientNetBN", "ViT"),
    *("ResNet", "resnet10", "resnet18", "resnet34", "resnet50", "resnet101", "resnet152", "resnet200"),
    *("SENet154", "SEResNet50", "SEResNet101", "SEResNet152", "SEResNext50", "SEResNext101"),
)


def _without_download(build: Callable[..., nn.Module]) -> Callable[..., nn.Module]:
    """The same, asked not to fetch weights where it would by default."""
    takes = inspect.signature(build).parameters
    return partial(build, pretrained=False) if "pretrained" in takes else build


MONAI_NETWORKS: dict[str, Callable[..., nn.Module]] = {
    **{name.lower(): _without_download(getattr(nets, name)) for name in sorted([*SEGMENTATION, *CLASSIFICATION], key=str.lower)},
    "dints": dints,
    "retinanet": retinanet,
    "vista3d132": PromptedVista,
}
"""By name in lower case. A newer MONAI may have more: a name of its classes joins one of the two lists."""
