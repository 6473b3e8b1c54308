"""What is a victim's module? Normalisation, network, and the way of its answers back to the stored grid, all differentiable."""

from collections.abc import Sequence
from typing import Any

import torch
from monai.apps.detection.networks.retinanet_detector import RetinaNetDetector
from torch import Tensor, nn

from medadv.victims.inputs.around import Members
from medadv.victims.inputs.deployed import Logits, Slicewise
from medadv.victims.inputs.sliding import Windowed
from medadv.victims.inputs.steps import InputSteps


class Normalized(nn.Module):
    """Differentiable normalisation and network in one module.

    normalize: stored units to the network's input; `InputSteps` may change the grid, and bring answers back to it.  ending: from the
    network's answers to logits, where these are not its answers.  head: of the ending, which tells how background is answered.
    """

    def __init__(self, normalize: nn.Module, network: nn.Module, ending: Logits | None = None, head: str = "softmax") -> None:
        super().__init__()
        self.normalize = normalize
        self.network = network
        self.ending = ending
        self.head = head

    def forward(self, images: Tensor) -> Any:
        """images: (n, C, *spatial), stored units."""
        answers = self.answers(images)
        return answers if self.ending is None else self.ending(answers)

    def answers(self, images: Tensor) -> Any:
        """What the deployed network answers, on the grid of the images."""
        if not isinstance(self.normalize, InputSteps):
            return self.network(self.normalize(images))
        if self.normalize.one_at_a_time and len(images) > 1:
            return torch.cat([self.answers(image) for image in images.split(1)])
        inputs, back = self.normalize.there(images, self._outside)
        answers = self.network(inputs)
        return back(answers) if isinstance(answers, Tensor) and answers.ndim == images.ndim else answers

    def piece(self, stored: Sequence[int]) -> tuple[int, ...]:
        """(C, *spatial) of the least image that fills a window of the network; of the whole image where there are no windows.

        stored: (C, *spatial) of an image.  Raises ValueError where a window has another number of axes.
        """
        window, slicewise = _window(self.network)
        if window is None:
            return tuple(stored)
        if len(window) + slicewise != len(stored) - 1:
            of = " of its slices" if slicewise else ""
            raise ValueError(f"window={list(window)} has {len(window)} lengths{of} for images of {len(stored) - 1} axes")
        window = (1, *window) if slicewise else window
        least = self.normalize.least(window) if isinstance(self.normalize, InputSteps) else window
        return tuple(stored) if least is None else (stored[0], *least)

    def _outside(self, classes: int) -> Tensor:
        ending = Logits("none", binary=False) if self.ending is None else self.ending
        return ending.outside(classes, self.head)


def _window(network: nn.Module) -> tuple[tuple[int, ...] | None, bool]:
    """The window in a deployed network, and whether it goes slice by slice."""
    network = network.members[0] if isinstance(network, Members) else network
    slicewise = isinstance(network, Slicewise)
    inner = network.network if isinstance(network, Slicewise | RetinaNetDetector) else network
    return (inner.window if isinstance(inner, Windowed) else None), slicewise
