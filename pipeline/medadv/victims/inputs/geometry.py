"""Which steps move voxels, and how does an answer come back to the stored grid? Transposing, flipping, resizing, cropping.

Boxes here count axes as the tensor does: (m, 2 * dims), all lower bounds before all upper ones.
"""

from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn import functional

LINEAR = {2: "bilinear", 3: "trilinear"}


class Move(nn.Module, ABC):
    """A step that moves voxels.

    forward: (n, C, *spatial) to the network's grid.  back: an answer (n, K, *grid) to the grid of `before`, the images as they were.
    there, home: boxes to the network's grid and from it, for images of stored lengths `spatial`.  grid: the lengths afterwards; least: the
    lengths of which the network sees `window`, None where all of the image is needed.
    """

    @abstractmethod
    def forward(self, images: Tensor) -> Tensor: ...

    @abstractmethod
    def back(self, answers: Tensor, before: Tensor, outside: Tensor) -> Tensor:
        """outside: (K,), the answer where the network saw nothing."""

    @abstractmethod
    def there(self, boxes: Tensor, spatial: Sequence[int]) -> Tensor: ...

    @abstractmethod
    def home(self, boxes: Tensor, spatial: Sequence[int]) -> Tensor: ...

    def grid(self, spatial: Sequence[int]) -> tuple[int, ...]:
        return tuple(spatial)

    def least(self, window: Sequence[int]) -> tuple[int, ...] | None:
        return tuple(window)


class Transpose(Move):
    """Spatial axes in another order."""

    def __init__(self, order: Sequence[int]) -> None:
        super().__init__()
        self.order = tuple(order)
        self.inverse = tuple(self.order.index(axis) for axis in range(len(self.order)))

    def forward(self, images: Tensor) -> Tensor:
        self._check(images)
        return images.permute(0, 1, *(axis + 2 for axis in self.order))

    def back(self, answers: Tensor, before: Tensor, outside: Tensor) -> Tensor:
        return answers.permute(0, 1, *(axis + 2 for axis in self.inverse))

    def there(self, boxes: Tensor, spatial: Sequence[int]) -> Tensor:
        return _axes(boxes, self.order)

    def home(self, boxes: Tensor, spatial: Sequence[int]) -> Tensor:
        return _axes(boxes, self.inverse)

    def grid(self, spatial: Sequence[int]) -> tuple[int, ...]:
        return tuple(spatial[axis] for axis in self.order)

    def least(self, window: Sequence[int]) -> tuple[int, ...] | None:
        return tuple(window[axis] for axis in self.inverse)

    def _check(self, images: Tensor) -> None:
        if images.ndim - 2 != len(self.order):
            raise ValueError(f"transpose: {list(self.order)} orders {len(self.order)} axes, and the image has {images.ndim - 2}")


class Flip(Move):
    """Spatial axes that run the other way."""

    def __init__(self, axes: Sequence[int]) -> None:
        super().__init__()
        self.axes = tuple(axes)

    def forward(self, images: Tensor) -> Tensor:
        if max(self.axes) >= images.ndim - 2:
            raise ValueError(f"flip: {list(self.axes)} names axis {max(self.axes)}, and the image has {images.ndim - 2}, counted from 0")
        return images.flip([axis + 2 for axis in self.axes])

    def back(self, answers: Tensor, before: Tensor, outside: Tensor) -> Tensor:
        return answers.flip([axis + 2 for axis in self.axes])

    def there(self, boxes: Tensor, spatial: Sequence[int]) -> Tensor:
        moved, dims = boxes.clone(), len(spatial)
        for axis in self.axes:
            moved[:, axis], moved[:, dims + axis] = spatial[axis] - boxes[:, dims + axis], spatial[axis] - boxes[:, axis]
        return moved

    def home(self, boxes: Tensor, spatial: Sequence[int]) -> Tensor:
        return self.there(boxes, spatial)


class Resize(Move):
    """To a size of the network's; answers come back linearly, with the same rule for corners."""

    def __init__(
        self,
        size: Sequence[int],
        mode: Literal["linear", "nearest", "nearest-exact", "area"],
        *,
        antialias: bool = False,
        align_corners: bool = False,
    ) -> None:
        super().__init__()
        self.size, self.mode, self.antialias, self.align_corners = tuple(size), mode, antialias, align_corners

    def forward(self, images: Tensor) -> Tensor:
        if images.ndim - 2 != len(self.size):
            raise ValueError(f"resize: {list(self.size)} has {len(self.size)} lengths, and the image has {images.ndim - 2} axes")
        if self.mode == "linear":
            return self._linear(images, self.size, self.antialias)
        return functional.interpolate(images, self.size, mode=self.mode)

    def back(self, answers: Tensor, before: Tensor, outside: Tensor) -> Tensor:
        return self._linear(answers, before.shape[2:], antialias=False)

    def there(self, boxes: Tensor, spatial: Sequence[int]) -> Tensor:
        return boxes * self._factors(boxes, spatial)

    def home(self, boxes: Tensor, spatial: Sequence[int]) -> Tensor:
        return boxes / self._factors(boxes, spatial)

    def grid(self, spatial: Sequence[int]) -> tuple[int, ...]:
        return self.size

    def least(self, window: Sequence[int]) -> tuple[int, ...] | None:
        return None

    def _linear(self, images: Tensor, size: Sequence[int], antialias: bool) -> Tensor:
        mode = LINEAR[len(size)]
        return functional.interpolate(images, tuple(size), mode=mode, align_corners=self.align_corners, antialias=antialias)

    def _factors(self, boxes: Tensor, spatial: Sequence[int]) -> Tensor:
        return boxes.new_tensor([there / here for there, here in zip(self.size, spatial, strict=True)] * 2)


class Crop(Move):
    """To the box around everything that is not 0 in any channel, or above 0, and `margin` voxels more where the image has them.

    Images go through it one at a time, since their boxes differ.
    """

    def __init__(self, *, positive: bool = False, margin: int = 0) -> None:
        super().__init__()
        self.positive, self.margin = positive, margin

    def forward(self, images: Tensor) -> Tensor:
        return images[(slice(None), slice(None), *self._box(images))]

    def there(self, boxes: Tensor, spatial: Sequence[int]) -> Tensor:
        """Raises ValueError: where to depends on the image, which is not here. A victim that answers boxes is refused before."""
        raise ValueError("boxes cannot follow a crop that differs from image to image")

    home = there

    def back(self, answers: Tensor, before: Tensor, outside: Tensor) -> Tensor:
        form = (1, -1) + (1,) * (before.ndim - 2)
        whole = outside.to(answers).view(form).expand(len(answers), -1, *before.shape[2:]).clone()
        whole[(slice(None), slice(None), *self._box(before))] = answers
        return whole

    def _box(self, images: Tensor) -> list[slice]:
        if len(images) != 1:
            raise ValueError("crop takes images one at a time")
        some = (images.detach() > 0 if self.positive else images.detach() != 0).any(1)[0]
        if not bool(some.any()):
            return [slice(None)] * some.ndim
        found = []
        for axis in range(some.ndim):
            held = torch.nonzero(some.any([other for other in range(some.ndim) if other != axis]) if some.ndim > 1 else some)
            found.append(slice(max(0, int(held[0]) - self.margin), min(some.shape[axis], int(held[-1]) + 1 + self.margin)))
        return found


def _axes(boxes: Tensor, order: Sequence[int]) -> Tensor:
    # Not -1: of no boxes nobody could tell.
    return boxes.reshape(len(boxes), 2, len(order))[:, :, list(order)].reshape(boxes.shape)
