"""Where in a network's outputs are its logits? One entry of a tuple or dictionary, brought to the image's grid where it is coarser."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

LINEAR = {1: "linear", 2: "bilinear", 3: "trilinear"}
USUAL = ("out", "logits")
"""What torchvision's and transformers' models call them."""


class Answer(nn.Module):
    """A network of which one output counts.

    key: index or name of the output; None where the network answers one tensor.  to_grid: whether logits are brought to the grid of the
    image, linearly and without aligned corners, as segmentation models of lower resolution are evaluated.
    """

    def __init__(self, network: nn.Module, key: int | str | None, *, to_grid: bool = False) -> None:
        super().__init__()
        self.network = network
        self.key, self.to_grid = key, to_grid

    def forward(self, images: Tensor) -> Tensor:
        """(n, C, *spatial) to (n, K) or (n, K, *spatial)."""
        logits = entry(self.network(images), self.key)
        if not self.to_grid:
            return logits
        return functional.interpolate(logits, images.shape[2:], mode=LINEAR[images.ndim - 2], align_corners=False)


def entry(outputs: Any, key: int | str | None) -> Any:
    """One of a network's outputs.  Raises KeyError where there is none of that name or index."""
    if key is None:
        return outputs
    if isinstance(key, int):
        if not isinstance(outputs, Sequence) or not -len(outputs) <= key < len(outputs):
            raise KeyError(key)
        return outputs[key]
    if isinstance(outputs, Mapping):
        return outputs[key]
    return getattr(outputs, "__dict__", {})[key]


def key_of(outputs: Any, spatial: Sequence[int], task: str) -> int | str | None:
    """The output that can only be the logits: the one of the usual name, or the single one of the task's form.

    spatial: of the image that was answered.  Raises ValueError, listing what there is, where none or several could be.
    """
    if isinstance(outputs, Tensor):
        return None
    named = dict(_entries(outputs))
    for name in USUAL:
        if isinstance(named.get(name), Tensor):
            return name
    fitting = [name for name, value in named.items() if isinstance(value, Tensor) and _fits(value, spatial, task)]
    if len(fitting) != 1:
        listed = "; ".join(f"{name}: {_described(value)}" for name, value in named.items())
        raise ValueError(f"the network answers a {type(outputs).__name__} ({listed or 'of nothing known'}): say which by victim.output")
    return fitting[0]


def is_coarser(logits: Tensor, spatial: Sequence[int]) -> bool:
    """Whether a segmenter's logits (n, K, *spatial) lie on the image's grid made coarser by a whole number, the same along every axis."""
    if logits.ndim != len(spatial) + 2 or 0 in logits.shape:
        return False
    factor = round(max(full / length for full, length in zip(spatial, logits.shape[2:], strict=True)))
    return factor > 1 and all(-(-full // factor) == length for full, length in zip(spatial, logits.shape[2:], strict=True))


def _entries(outputs: Any) -> Iterator[tuple[int | str, Any]]:
    if isinstance(outputs, Mapping):
        yield from ((str(name), value) for name, value in outputs.items())
    elif isinstance(outputs, Sequence):
        yield from enumerate(outputs)
    else:
        yield from getattr(outputs, "__dict__", {}).items()


def _fits(value: Tensor, spatial: Sequence[int], task: str) -> bool:
    return value.ndim == 2 if task == "classification" else tuple(value.shape[2:]) == tuple(spatial)


def _described(value: Any) -> str:
    return str(list(value.shape)) if isinstance(value, torch.Tensor) else type(value).__name__
