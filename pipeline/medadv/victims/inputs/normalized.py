"""Normalisation and network as one differentiable module."""

from typing import Any

from torch import Tensor, nn


class Normalized(nn.Module):
    """Differentiable normalisation and network in one module."""

    def __init__(self, normalize: nn.Module, network: nn.Module) -> None:
        super().__init__()
        self.normalize = normalize
        self.network = network

    def forward(self, images: Tensor) -> Any:
        """images: (n, C, *spatial), stored units."""
        return self.network(self.normalize(images))
