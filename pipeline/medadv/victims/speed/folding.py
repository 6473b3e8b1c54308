"""Batch-norm in evaluation mode is an affine map per channel: the convolution before it can do that map too."""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.utils.fusion import fuse_conv_bn_weights

CONVOLUTIONS = (nn.Conv1d, nn.Conv2d, nn.Conv3d)
TRANSPOSED = (nn.ConvTranspose1d, nn.ConvTranspose2d, nn.ConvTranspose3d)


def fold_batch_norm(module: nn.Module, forward: Callable[[], Any]) -> int:
    """Fold every batch-norm whose input is a convolution's output, in place; returns how many.

    module: in evaluation mode.  forward: runs it once. Which layer follows which is seen on this run, so that neither names nor tracing
    matter; whether something else reads the convolution's output is not seen, so compare outputs before and after.

    Raises:
        ValueError: there is nothing to fold.
    """
    pairs = _pairs(module, forward)
    if not pairs:
        raise ValueError("no batch-norm follows a convolution")
    names = {id(part): name for name, part in module.named_modules()}
    for convolution, norm in pairs:
        transposed = isinstance(convolution, TRANSPOSED)
        statistics = norm.running_mean, norm.running_var, norm.eps, norm.weight, norm.bias
        weight, bias = fuse_conv_bn_weights(convolution.weight, convolution.bias, *statistics, transpose=transposed)
        convolution.weight, convolution.bias = weight, bias
        parent, _, child = names[id(norm)].rpartition(".")
        setattr(module.get_submodule(parent), child, nn.Identity())
    return len(pairs)


def _pairs(module: nn.Module, forward: Callable[[], Any]) -> list[tuple[Any, Any]]:
    """Convolution and batch-norm, each called once, the output of one the input of the other."""
    # Outputs are kept until the end, so that no identity is given twice.
    made: dict[int, tuple[Any, Tensor]] = {}
    calls: dict[int, int] = {}
    pairs: list[tuple[Any, Any]] = []

    def seen(part: nn.Module, inputs: tuple[Any, ...], output: Any) -> None:
        calls[id(part)] = calls.get(id(part), 0) + 1
        if isinstance(part, (*CONVOLUTIONS, *TRANSPOSED)):
            made[id(output)] = (part, output)
        elif id(inputs[0]) in made:
            pairs.append((made[id(inputs[0])][0], part))

    watched = (*CONVOLUTIONS, *TRANSPOSED, nn.modules.batchnorm._BatchNorm)
    handles = [part.register_forward_hook(seen) for part in module.modules() if isinstance(part, watched)]
    try:
        with torch.no_grad():
            forward()
    finally:
        for handle in handles:
            handle.remove()
    return [
        (convolution, norm)
        for convolution, norm in pairs
        if calls[id(convolution)] == calls[id(norm)] == 1 and norm.running_mean is not None and _foldable(convolution)
    ]


def _foldable(convolution: Any) -> bool:
    return not isinstance(convolution, TRANSPOSED) or convolution.groups == 1
