"""From stored units to a network's input, differentiably. These modules are part of the victim, never of the stored data."""

from collections.abc import Sequence

import torch
from torch import Tensor, nn


class Normalize(nn.Module):
    """Levels 0 to 255 to standardised intensities: (x / 255 - mean) / std, per channel.

    forward: (n, C, *spatial) float, stored units "level8", to the same shape.  mean and std: one number per channel in [0, 1] units.
    """

    mean: Tensor
    std: Tensor

    def __init__(self, mean: Sequence[float], std: Sequence[float]) -> None:
        super().__init__()
        if len(mean) != len(std) or not mean:
            raise ValueError(f"mean and std must name the same channels, not {len(mean)} and {len(std)}")
        if min(std) <= 0:
            raise ValueError("every std must be above 0")
        self.register_buffer("mean", torch.tensor(mean, dtype=torch.float32))
        self.register_buffer("std", torch.tensor(std, dtype=torch.float32))

    def forward(self, image: Tensor) -> Tensor:
        channels = (1, -1) + (1,) * (image.ndim - 2)
        return (image / 255 - self.mean.view(channels)) / self.std.view(channels)


class Window(nn.Module):
    """HU to [0, 1]: linear between `low` and `high`, constant outside.

    forward: (n, C, *spatial) float HU to the same shape. The gradient is zero outside the window: voxels that the network
    cannot tell apart give an attack nothing to follow.
    """

    def __init__(self, low: float, high: float) -> None:
        super().__init__()
        if not low < high:
            raise ValueError(f"window [{low}, {high}] must rise")
        self.low, self.high = float(low), float(high)

    def forward(self, image: Tensor) -> Tensor:
        return ((image - self.low) / (self.high - self.low)).clamp(0, 1)
