"""Which steps change values alone? Differentiable, with the meaning of MONAI's transforms of the same kind, and statistics of each image.

Every module maps (n, C, *spatial) to (n, C', *spatial). Statistics are part of the graph: moving one voxel moves the mean. What counts as
nonzero is constant in the gradient, and voxels that share an extreme share its gradient.
"""

from collections.abc import Sequence
from typing import Literal

import torch
from scipy.ndimage import binary_fill_holes
from torch import Tensor, nn
from torch.nn import functional

from medadv_transforms.normalize import Window


class Windows(nn.Module):
    """Several windows of one channel, each a channel."""

    def __init__(self, windows: Sequence[tuple[float, float]]) -> None:
        super().__init__()
        self.windows = nn.ModuleList(Window(*bounds) for bounds in windows)

    def forward(self, image: Tensor) -> Tensor:
        if image.shape[1] != 1:
            raise ValueError(f"windows makes channels of one, and the image has {image.shape[1]}")
        return torch.cat([window(image) for window in self.windows], 1)


class Clip(nn.Module):
    """Values outside become the bounds."""

    def __init__(self, low: float, high: float) -> None:
        super().__init__()
        self.low, self.high = low, high

    def forward(self, image: Tensor) -> Tensor:
        return image.clamp(self.low, self.high)


class Scale(nn.Module):
    """`monai.transforms.ScaleIntensityRange`: a becomes low, b becomes high, linearly; `clip` keeps the result between both."""

    def __init__(self, a: float, b: float, low: float, high: float, *, clip: bool) -> None:
        super().__init__()
        self.a, self.b, self.low, self.high, self.clip = a, b, low, high, clip

    def forward(self, image: Tensor) -> Tensor:
        scaled = (image - self.a) / (self.b - self.a) * (self.high - self.low) + self.low
        return scaled.clamp(self.low, self.high) if self.clip else scaled


class Standardize(nn.Module):
    """Less constants, over constants: one value, or one a channel."""

    mean: Tensor
    std: Tensor

    def __init__(self, mean: Sequence[float], std: Sequence[float], *, nonzero: bool) -> None:
        super().__init__()
        self.register_buffer("mean", torch.tensor(mean, dtype=torch.float32))
        self.register_buffer("std", torch.tensor(std, dtype=torch.float32))
        self.nonzero = nonzero

    def forward(self, image: Tensor) -> Tensor:
        channels = (1, -1) + (1,) * (image.ndim - 2)
        changed = (image - self.mean.view(channels).to(image)) / self.std.view(channels).to(image)
        return torch.where(image != 0, changed, image) if self.nonzero else changed


class StandardizeEach(nn.Module):
    """Less each image's mean, over its population standard deviation: `monai.transforms.NormalizeIntensity` without constants.

    nonzero: over what is not 0, which alone is changed; `filled`: over what is not 0 in any channel, holes included (nnU-Net's
    `use_mask_for_norm`). per_channel: statistics of each channel. A standard deviation of 0 counts as 1.
    """

    def __init__(self, *, nonzero: bool | Literal["filled"], per_channel: bool) -> None:
        super().__init__()
        self.nonzero, self.per_channel = nonzero, per_channel

    def forward(self, image: Tensor) -> Tensor:
        axes = tuple(range(2 if self.per_channel else 1, image.ndim))
        if not self.nonzero:
            mean = image.mean(axes, keepdim=True)
            return (image - mean) / _divisor((image - mean).square().mean(axes, keepdim=True))
        counted = _filled(image) if self.nonzero == "filled" else image != 0
        weights = counted.to(image.dtype).expand_as(image)
        number = weights.sum(axes, keepdim=True).clamp(min=1)
        mean = (image * weights).sum(axes, keepdim=True) / number
        divisor = _divisor(((image - mean) * weights).square().sum(axes, keepdim=True) / number)
        return torch.where(counted, (image - mean) / divisor, image)


class StretchEach(nn.Module):
    """Each image's least and greatest value become `low` and `high`: `monai.transforms.ScaleIntensity`.

    per_channel: those of each channel. An image of a single value is multiplied by `low`.
    """

    def __init__(self, low: float, high: float, *, per_channel: bool) -> None:
        super().__init__()
        self.low, self.high, self.per_channel = low, high, per_channel

    def forward(self, image: Tensor) -> Tensor:
        axes = tuple(range(2 if self.per_channel else 1, image.ndim))
        least, greatest = image.amin(axes, keepdim=True), image.amax(axes, keepdim=True)
        flat = greatest == least
        stretched = (image - least) / torch.where(flat, 1, greatest - least) * (self.high - self.low) + self.low
        return torch.where(flat, image * self.low, stretched)


class Repeat(nn.Module):
    """Every channel so many times, as `monai.transforms.RepeatChannel` orders them."""

    def __init__(self, times: int) -> None:
        super().__init__()
        self.times = times

    def forward(self, image: Tensor) -> Tensor:
        return image.repeat_interleave(self.times, 1)


class Order(nn.Module):
    """Channels by their number: another order, or some of them."""

    def __init__(self, order: Sequence[int]) -> None:
        super().__init__()
        self.order = list(order)

    def forward(self, image: Tensor) -> Tensor:
        if max(self.order) >= image.shape[1]:
            raise ValueError(f"channels.order={self.order} names channel {max(self.order)}, and the image has {image.shape[1]}")
        return torch.cat([image[:, each : each + 1] for each in self.order], 1)


class Slab(nn.Module):
    """Neighbouring slices along the first spatial axis as channels; beyond the ends the outermost slice again."""

    def __init__(self, slices: int) -> None:
        super().__init__()
        self.slices = slices

    def forward(self, image: Tensor) -> Tensor:
        length, reach = image.shape[2], self.slices // 2
        padded = torch.cat([image[:, :, :1]] * reach + [image] + [image[:, :, -1:]] * reach, 2)
        return torch.cat([padded.narrow(2, start, length) for start in range(self.slices)], 1)


class Zeros(nn.Module):
    """Empty channels behind the image's own, such as those of clicks that nobody made."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.channels = channels

    def forward(self, image: Tensor) -> Tensor:
        return functional.pad(image, [0, 0] * (image.ndim - 2) + [0, self.channels])


def _divisor(variance: Tensor) -> Tensor:
    """Standard deviation; 1 where all values are equal, since the root of 0 has no gradient."""
    return torch.where(variance == 0, 1, variance).sqrt()


def _filled(image: Tensor) -> Tensor:
    """What is not 0 in any channel, holes included: (n, 1, *spatial)."""
    some = (image.detach() != 0).any(1, keepdim=True)
    filled = [torch.from_numpy(binary_fill_holes(each.cpu().numpy())) for each in some[:, 0]]
    return torch.stack(filled).unsqueeze(1).to(image.device)
