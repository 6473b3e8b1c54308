"""Which parts of a network are replaced by leaner ones?"""

from collections.abc import Callable
from typing import Any

from torch import nn

from medadv.victims.speed.norms import ChannelsLastNorm, ChannelwiseAffine
from medadv.victims.speed.space_to_depth import SpaceToDepth, is_thin

INSTANCE_NORMS = (nn.InstanceNorm1d, nn.InstanceNorm2d, nn.InstanceNorm3d)
BATCH_NORMS = (nn.BatchNorm1d, nn.BatchNorm2d, nn.BatchNorm3d)


def freeze_slopes(module: nn.Module) -> None:
    """Replace, in place, every PReLU with one slope by the LeakyReLU of that slope.

    PReLU computes the gradient of its slope even when that is frozen: in bfloat16 on a CPU a fifth of a U-Net's step.
    """

    def is_plain(part: Any) -> bool:
        # Slopes by channel would need their own shape; a subclass may do anything.
        return type(part) is nn.PReLU and part.num_parameters == 1

    replace_parts(module, is_plain, lambda part: nn.LeakyReLU(float(part.weight.detach())))


def lighten(module: nn.Module) -> None:
    """Replace, in place, what PyTorch is slow at on a CPU: norms whose channels come last in memory, and strided convolutions of few
    channels. `module` is in evaluation mode."""
    replace_parts(module, lambda part: type(part) is nn.GroupNorm, lambda part: ChannelsLastNorm(part.num_groups, part))
    replace_parts(module, _takes_own_statistics, lambda part: ChannelsLastNorm(None, part))
    replace_parts(module, lambda part: type(part) in BATCH_NORMS and part.running_mean is not None, ChannelwiseAffine)
    replace_parts(module, is_thin, SpaceToDepth)


def _takes_own_statistics(part: Any) -> bool:
    # With running statistics an instance norm is a batch norm.
    return type(part) in INSTANCE_NORMS and not part.track_running_stats


def replace_parts(module: nn.Module, chosen: Callable[[Any], bool], made: Callable[[Any], nn.Module]) -> None:
    """Put, in place, another module for every chosen one below `module`."""
    for parent in list(module.modules()):
        for name, child in parent.named_children():
            if chosen(child):
                setattr(parent, name, made(child))
