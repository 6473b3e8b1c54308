"""What of a model is heavy, and how does it run on another module? Shared by all tasks."""

from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import Any, Self

from torch import Tensor, nn

from medadv.victims.inputs.around import networks
from medadv.victims.inputs.normalized import Normalized


class ModelParts:
    """The part of a model's surface that no task says differently; a base of frozen dataclasses with a `module`."""

    module: nn.Module

    def on(self, module: nn.Module) -> Self:
        """The same task, computed by another module."""
        return replace(self, module=module)  # type: ignore[type-var]

    def heavy_parts(self) -> list[nn.Module]:
        """The networks, one a member, without normalisation, windows and what else lies around them."""
        return networks(self._network())

    def network_shape(self, shape: Sequence[int]) -> tuple[int, ...]:
        """(C, *spatial) of the least image that fills a window, or of the whole image."""
        return self.module.piece(shape) if isinstance(self.module, Normalized) else tuple(shape)

    def tensors(self, outputs: Any) -> Iterator[Tensor]:
        """The outputs, which are logits."""
        yield outputs

    def _network(self) -> Any:
        return getattr(self.module, "network", self.module)
