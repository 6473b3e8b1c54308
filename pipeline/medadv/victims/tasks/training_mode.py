"""How does a detector tell its losses, and answer as it does when it is deployed? In training mode, but for what normalises."""

from collections.abc import Iterator
from contextlib import contextmanager

from torch import nn

FURTHER_POOLS = ("mask_roi_pool", "keypoint_roi_pool")
NORMALISERS = (nn.modules.batchnorm._BatchNorm, nn.modules.dropout._DropoutNd)


@contextmanager
def training_mode(network: nn.Module) -> Iterator[None]:
    """Training mode, in which detectors give losses, with batch-norm and dropout left in evaluation mode.

    Mask and keypoint heads, whose truths are not stored, are left out: torchvision takes a head without its pooling for none.
    """
    modes = [(part, part.training) for part in network.modules()]
    heads = getattr(network, "roi_heads", None)
    pools = {name: pool for name in FURTHER_POOLS if (pool := getattr(heads, name, None)) is not None}
    try:
        for part, _ in modes:
            part.training = not isinstance(part, NORMALISERS)
        for name in pools:
            setattr(heads, name, None)
        yield
    finally:
        for name, pool in pools.items():
            setattr(heads, name, pool)
        for part, mode in modes:
            part.training = mode
