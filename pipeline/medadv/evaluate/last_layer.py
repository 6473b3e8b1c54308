"""Which layer answers a classifier's logits, and what does it see? The last linear layer and its features, found by a hook."""

from contextlib import ExitStack
from typing import Any

import torch
from torch import Tensor, nn

from medadv.attacks.untouched import untouched


def last_linear(module: nn.Module, images: Tensor) -> nn.Linear | None:
    """The `nn.Linear` whose output is what the module answers, bit for bit; None where there is no such layer.

    images: (n, C, *spatial), stored units; a few, on the module's device.
    """
    seen: list[tuple[nn.Linear, Tensor]] = []

    def keep(layer: nn.Module, _: Any, output: Any) -> None:
        if isinstance(layer, nn.Linear) and isinstance(output, Tensor):
            seen.append((layer, output))

    with ExitStack() as stack:
        for layer in module.modules():
            if isinstance(layer, nn.Linear):
                handle = layer.register_forward_hook(keep)
                stack.callback(handle.remove)
        with untouched(module), torch.no_grad():
            logits = module(images)
    if not isinstance(logits, Tensor) or logits.ndim != 2:
        return None
    return next((layer for layer, output in reversed(seen) if output.shape == logits.shape and torch.equal(output, logits)), None)


class Features(nn.Module):
    """What the last linear layer of a classifier is given: (n, C, *spatial) in stored units to (n, F), differentiable."""

    def __init__(self, module: nn.Module, layer: nn.Linear) -> None:
        super().__init__()
        self.module, self.layer = module, layer

    def forward(self, images: Tensor) -> Tensor:
        kept: list[Tensor] = []
        handle = self.layer.register_forward_pre_hook(lambda _, given: kept.append(given[0]))
        try:
            self.module(images)
        finally:
            handle.remove()
        return kept[-1]


class Binary(nn.Module):
    """Two logits (-z, z) from features: the linear answer z to whether an image lies on the boundary.

    weight: (F,) and bias: (), float64; they take the features' type.
    """

    def __init__(self, features: Features, weight: Tensor, bias: Tensor) -> None:
        super().__init__()
        self.features = features
        self.register_buffer("weight", weight)
        self.register_buffer("bias", bias)

    def forward(self, images: Tensor) -> Tensor:
        z = self.answer(self.features(images))
        return torch.stack([-z, z], 1)

    def answer(self, features: Tensor) -> Tensor:
        """z, (n,): positive on the boundary's side."""
        # In double precision: near the one boundary point the sides are told by small differences.
        return features.double() @ self.weight + self.bias  # type: ignore[operator]
