"""What else is done when a network is deployed? Mirrored passes, slice by slice, and the last activation taken back."""

from collections.abc import Sequence
from functools import partial
from itertools import chain, combinations
from typing import Any, Literal

import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.utils.checkpoint import checkpoint

from medadv.victims.inputs.around import Around
from medadv.victims.inputs.sliding import SlidingWindow

Activation = Literal["none", "softmax", "sigmoid"]
OUTSIDE = -20.0
"""Logit of a class where the network saw nothing: a probability of 2e-9."""


class Mirrored(Around):
    """The mean of the logits of a window and of its mirror images over all combinations of `axes`, in nnU-Net's order.

    forward: (n, C, *window) to (n, K, *window). For a gradient every passage is done again, so that memory does not grow with their number.
    """

    def __init__(self, network: nn.Module, axes: Sequence[int]) -> None:
        super().__init__(network)
        sizes = range(1, len(axes) + 1)
        self.flips = [[axis + 2 for axis in chosen] for chosen in chain.from_iterable(combinations(axes, size) for size in sizes)]

    def forward(self, images: Tensor) -> Tensor:
        total = _replayed(self.network, images)
        for axes in self.flips:
            total = total + _replayed(self.network, images.flip(axes)).flip(axes)
        return total / (len(self.flips) + 1)


class Slicewise(Around):
    """A 2D network on volumes: (n, C, slices, h, w) to (n, K, slices, h, w), `batch` slices at a time."""

    def __init__(self, network: nn.Module, batch: int) -> None:
        super().__init__(network)
        self.batch = batch

    def forward(self, images: Tensor) -> Tensor:
        if images.ndim != 5:
            raise ValueError(f"slicewise takes volumes, and the image has {images.ndim - 2} axes")
        slices = images.movedim(2, 1).flatten(0, 1)
        # Windows replay themselves.
        answer = self.network if isinstance(self.network, SlidingWindow) else partial(_replayed, self.network)
        answers = torch.cat([answer(part) for part in slices.split(self.batch)])
        return answers.unflatten(0, (len(images), -1)).movedim(1, 2)


class Logits(nn.Module):
    """A deployed network's answers (n, K, ...) as logits.

    activation: what the network made probabilities by, which is taken back: log p, or log p - log(1 - p), with p kept between the type's
    smallest normal number and 1 less its epsilon, so that every answer and every score is that of the probabilities. binary: whether the
    one value z of an image or voxel stands for the two classes (0, z).
    """

    def __init__(self, activation: Activation, *, binary: bool) -> None:
        super().__init__()
        self.activation, self.binary = activation, binary

    def forward(self, answers: Tensor) -> Tensor:
        if self.activation != "none":
            kept = self.kept(answers)
            answers = kept.log() if self.activation == "softmax" else kept.log() - (-kept).log1p()
        if not self.binary:
            return answers
        if answers.shape[1] != 1:
            raise ValueError(f"head: binary takes one value, and the network answers {answers.shape[1]}")
        return functional.pad(answers, [0, 0] * (answers.ndim - 2) + [1, 0])

    def kept(self, answers: Tensor) -> Tensor:
        """The probabilities, away from 0 and 1."""
        limits = torch.finfo(answers.dtype)
        return answers.clamp(limits.tiny, 1 - limits.eps)

    def outside(self, classes: int, head: str) -> Tensor:
        """(K,): what the network would answer for background."""
        background = torch.full((classes,), 0.0 if self.activation != "none" else OUTSIDE)
        if head == "softmax":
            background[0] = 1.0 if self.activation != "none" else 0.0
        return background

    def clamped(self, answers: Any) -> Tensor:
        """Share of the outputs at the clamp, as a 0-dim tensor."""
        return (self.kept(answers) != answers).double().mean()


def _replayed(network: nn.Module, images: Tensor) -> Tensor:
    """The network's answer, whose graph is not kept: a gradient goes through the network once more."""
    if not (torch.is_grad_enabled() and images.requires_grad):
        answers: Tensor = network(images)
        return answers
    again: Tensor = checkpoint(network, images, use_reentrant=False, preserve_rng_state=False)
    return again
