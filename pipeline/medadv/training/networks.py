"""Networks as training code has them (wrapped, in another precision, with several outputs) in the form that victims take."""

import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from medadv.victims.inputs.normalized import Normalized
from medadv.victims.tasks.segmentation import Segmenter

MAIN = ("out", "logits")
"""Names of the answer in dictionaries: torchvision's segmenters, Hugging Face's models."""


@dataclass(frozen=True)
class OwnSegmenter(Segmenter):
    """A segmenter with the value that its user's masks mean "ignore" by, which is 255 in medadv's own."""

    ignore_index: int | None = None


class OwnNetwork(Normalized):
    """A network in training: images reach it in its own precision, and one output leaves it in the images'."""

    def __init__(self, normalize: nn.Module, network: nn.Module, output: int | str | None = None) -> None:
        """output: which of several is the answer; found out when None, see `main_output`."""
        super().__init__(_Cast(normalize, network), network)
        self.output = output

    def forward(self, images: Tensor) -> Any:
        """images: (n, C, *spatial), stored units."""
        outputs = main_output(self.network(self.normalize(images)), images, self.output)
        return outputs.to(images.dtype)


class _Cast(nn.Module):
    """Normalisation in the images' precision, since half precision cannot hold every HU, then the network's."""

    def __init__(self, normalize: nn.Module, network: nn.Module) -> None:
        super().__init__()
        self.normalize = normalize
        # In a tuple, so that its parameters are not counted twice.
        self.network = (network,)

    def forward(self, images: Tensor) -> Tensor:
        normalized: Tensor = self.normalize(images)
        return normalized.to(precision(self.network[0]))


def unwrapped(network: nn.Module) -> nn.Module:
    """The module inside DataParallel and DistributedDataParallel, whose own passes are for training steps."""
    parallel = (nn.DataParallel, nn.parallel.DistributedDataParallel)
    return network.module if isinstance(network, parallel) else network


def precision(module: nn.Module) -> torch.dtype:
    """Of a module's parameters; float32 where it has none."""
    return next((p.dtype for p in module.parameters() if p.is_floating_point()), torch.float32)


def device_of(module: nn.Module) -> torch.device | None:
    """Where a module's parameters lie; None where it has none."""
    return next((p.device for p in module.parameters()), None)


def main_output(outputs: Any, images: Tensor, output: int | str | None) -> Tensor:
    """The answer (n, K[, *spatial]) among what a network gives: a tensor, a dictionary, a list, or one stacked (n, S, K, *spatial).

    Without `output`: `out` or `logits` of a dictionary; the first of a stack, as MONAI's DynUNet has it; of a list the one as large as the
    images, as nnU-Net's is. Raises ValueError where that does not tell.
    """
    if isinstance(outputs, Tensor):
        stacked = outputs.ndim == images.ndim + 1
        if output is not None and not (stacked and isinstance(output, int)):
            raise ValueError(f"output={output!r}: the network answers one tensor {list(outputs.shape)}; leave it out")
        return outputs[:, output or 0] if stacked else outputs
    if output is not None:
        try:
            found: Tensor = outputs[output]
        except (KeyError, IndexError, TypeError):
            raise ValueError(f"output={output!r} is none of the network's: {_described(outputs)}") from None
        return found
    if isinstance(outputs, Mapping):
        candidates = [outputs[name] for name in MAIN if isinstance(outputs.get(name), Tensor)][:1] or list(outputs.values())
    else:
        candidates = [part for part in outputs if isinstance(part, Tensor)] if isinstance(outputs, Sequence) else []
        if len(candidates) > 1 and all(part.ndim == images.ndim for part in candidates):
            candidates = [part for part in candidates if part.shape[2:] == images.shape[2:]]
    if len(candidates) != 1 or not isinstance(candidates[0], Tensor):
        raise ValueError(f"the network gives {_described(outputs)}: say which is the answer, as_victim(…, output=0) or output='name'")
    return candidates[0]


def _described(outputs: Any) -> str:
    if isinstance(outputs, Mapping):
        return ", ".join(f"{name!r}" for name in outputs)
    if isinstance(outputs, Sequence):
        return ", ".join(str(list(part.shape)) if isinstance(part, Tensor) else type(part).__name__ for part in outputs)
    return type(outputs).__name__


def tell_what_is_left_out(network: nn.Module) -> None:
    """Warn of the heads of Mask R-CNN and Keypoint R-CNN, whose truths no corpus holds."""
    heads = getattr(network, "roi_heads", None)
    left = [name for name in ("mask", "keypoint") if getattr(heads, f"{name}_roi_pool", None) is not None]
    if left:
        warnings.warn(f"{left[0]}s are left out of the loss: the attack follows boxes and classes alone", UserWarning, stacklevel=3)
