"""How does a list of steps run, and how do answers come back? One module for all of them, around the network and its windows."""

from collections.abc import Callable, Sequence
from typing import Any

from torch import Tensor, nn

from medadv.spec.base import Settings
from medadv.spec.normalize import (
    ChannelsStep,
    ClipStep,
    Constants,
    CropStep,
    FlipStep,
    IdentityStep,
    MinmaxStep,
    ResizeStep,
    ScaleStep,
    TransposeStep,
    WindowsStep,
    WindowStep,
    ZscoreStep,
)
from medadv.victims.inputs.geometry import Crop, Flip, Move, Resize, Transpose
from medadv.victims.inputs.values import (
    Clip,
    Order,
    Repeat,
    Scale,
    Slab,
    Standardize,
    StandardizeEach,
    StretchEach,
    Windows,
    Zeros,
)
from medadv_transforms.normalize import Window

Back = Callable[[Tensor], Tensor]


class InputSteps(nn.Module):
    """Steps from stored units to the network's input, in order.

    forward: (n, C, *spatial) stored to what the network sees.
    """

    def __init__(self, steps: Sequence[nn.Module]) -> None:
        super().__init__()
        self.steps = nn.ModuleList(steps)

    @property
    def one_at_a_time(self) -> bool:
        """Whether images of one size become inputs of several."""
        return any(isinstance(step, Crop) for step in self.steps)

    def forward(self, images: Tensor) -> Tensor:
        for step in self.steps:
            images = step(images)
        return images

    def there(self, images: Tensor, outside: Callable[[int], Tensor]) -> tuple[Tensor, Back]:
        """The network's input, and the way back of an answer (n, K, *grid) to the stored grid.

        outside: of a number K of channels, the answer (K,) where the network sees nothing.
        """
        passed: list[tuple[Move, Tensor]] = []
        for step in self.steps:
            if isinstance(step, Move):
                passed.append((step, images))
            images = step(images)

        def back(answers: Tensor) -> Tensor:
            for step, before in reversed(passed):
                answers = step.back(answers, before, outside(answers.shape[1]))
            return answers

        return images, back

    def boxes_there(self, boxes: Tensor, spatial: Sequence[int]) -> Tensor:
        """Boxes on images of stored lengths `spatial`, axes as the tensor has them, to the network's grid."""
        for step, lengths in self._grids(spatial):
            boxes = step.there(boxes, lengths)
        return boxes

    def boxes_home(self, boxes: Tensor, spatial: Sequence[int]) -> Tensor:
        """The inverse of `boxes_there`."""
        for step, lengths in reversed(self._grids(spatial)):
            boxes = step.home(boxes, lengths)
        return boxes

    def least(self, window: Sequence[int]) -> tuple[int, ...] | None:
        """Lengths of a stored image of which the network sees `window`; None where it takes the whole image to make one."""
        found: tuple[int, ...] | None = tuple(window)
        for step in reversed(self._moves()):
            if found is not None:
                found = step.least(found)
        return found

    def _moves(self) -> list[Move]:
        return [step for step in self.steps if isinstance(step, Move)]

    def _grids(self, spatial: Sequence[int]) -> list[tuple[Move, tuple[int, ...]]]:
        """Every step that moves voxels, with the lengths that it meets."""
        found, lengths = [], tuple(spatial)
        for step in self._moves():
            found.append((step, lengths))
            lengths = step.grid(lengths)
        return found


def input_steps(settings: Sequence[Settings]) -> InputSteps:
    """The module that a list of steps in a spec means."""
    return InputSteps([_BUILD[type(each)](each) for each in settings])


def _channels(step: ChannelsStep) -> nn.Module:
    wanted = step.channels
    if wanted.repeat is not None:
        return Repeat(wanted.repeat)
    if wanted.order is not None:
        return Order(wanted.order)
    if wanted.slab is not None:
        return Slab(wanted.slab)
    assert wanted.zeros is not None
    return Zeros(wanted.zeros)


def _zscore(step: ZscoreStep) -> nn.Module:
    if isinstance(step.zscore, Constants):
        return Standardize(step.zscore.mean, step.zscore.std, nonzero=bool(step.nonzero))
    return StandardizeEach(nonzero=step.nonzero, per_channel=step.per_channel)


def _resize(step: ResizeStep) -> nn.Module:
    return Resize(step.resize, step.mode, antialias=step.antialias, align_corners=step.align_corners)


_BUILD: dict[type[Settings], Callable[[Any], nn.Module]] = {
    WindowStep: lambda step: Window(*step.window),
    WindowsStep: lambda step: Windows(step.windows),
    ClipStep: lambda step: Clip(*step.clip),
    ScaleStep: lambda step: Scale(*step.scale, clip=step.clip),
    ZscoreStep: _zscore,
    MinmaxStep: lambda step: StretchEach(*step.minmax, per_channel=step.per_channel),
    ResizeStep: _resize,
    ChannelsStep: _channels,
    TransposeStep: lambda step: Transpose(step.transpose),
    FlipStep: lambda step: Flip(step.flip),
    CropStep: lambda step: Crop(positive=step.crop == "positive", margin=step.margin),
    IdentityStep: lambda step: nn.Identity(),
}
