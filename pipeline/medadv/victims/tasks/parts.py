"""What of a model is heavy, and how does it run on another module? Shared by all tasks."""

from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import Any, Self

from torch import Tensor, nn

from medadv.attacks.diversity import Placings
from medadv.spec.attack import AttackSettings
from medadv.spec.goal import Goal
from medadv.victims.inputs.around import networks
from medadv.victims.inputs.normalized import Normalized

PLAIN = AttackSettings(attack="bim", epsilon=1, step=1)
"""Settings of the loss by which iterates are compared: cross-entropy, whatever an attack ascends."""


class ModelParts(ABC):
    """The part of a model's surface that no task says differently; a base of frozen dataclasses with a `module`."""

    module: nn.Module

    def on(self, module: nn.Module) -> Self:
        """The same task, computed by another module."""
        return replace(self, module=module)  # type: ignore[type-var]

    def heavy_parts(self) -> list[nn.Module]:
        """The networks, one a member, without normalisation, windows and what else lies around them."""
        return networks(self._network())

    @abstractmethod
    def forward(self, images: Tensor) -> Any:
        """Differentiable outputs."""

    def meet(self, outputs: Any, targets: Any, placings: Placings) -> tuple[Any, Any]:
        """As they are: an answer to the whole image has no place in it."""
        return outputs, targets

    @abstractmethod
    def wrongness(self, outputs: Any, targets: Any) -> Tensor:
        """How wrong each answer is by the truth, (n,)."""

    @abstractmethod
    def deviation(self, outputs: Any, targets: Any, settings: AttackSettings, progress: float = 0.0) -> Tensor:
        """Loss deviation of each sample, (n,)."""

    @abstractmethod
    def nearness(self, outputs: Any, targets: Any, goal: Goal) -> Tensor:
        """How near each answer is to a goal other than `untruth`, (n,)."""

    def standing(self, outputs: Any, targets: Any, settings: AttackSettings) -> tuple[Tensor, Tensor]:
        """Wrongness, or nearness to the goal, and the plain loss that tells equals apart."""
        plain = PLAIN.model_copy(update={"goal": settings.goal})
        return self._reached(outputs, targets, settings.goal), self.deviation(outputs, targets, plain)

    def seen(self, images: Tensor, targets: Any, settings: AttackSettings) -> tuple[Tensor, Tensor]:
        """Wrongness of the answers, or nearness to the goal, and the attack's own loss of their logits."""
        outputs = self.forward(images)
        return self._reached(outputs, targets, settings.goal), self.deviation(outputs, targets, settings)

    def _reached(self, outputs: Any, targets: Any, goal: Goal) -> Tensor:
        return self.wrongness(outputs, targets) if goal == "untruth" else self.nearness(outputs, targets, goal)

    def aimed(self, outputs: Any, targets: Any, rank: int) -> Any:
        """There are no classes of an image to drive it towards."""
        raise ValueError("target_classes is for classifiers with a softmax head: leave it out")

    def network_shape(self, shape: Sequence[int]) -> tuple[int, ...]:
        """(C, *spatial) of the least image that fills a window, or of the whole image."""
        return self.module.piece(shape) if isinstance(self.module, Normalized) else tuple(shape)

    def tensors(self, outputs: Any) -> Iterator[Tensor]:
        """The outputs, which are logits."""
        yield outputs

    def _network(self) -> Any:
        return getattr(self.module, "network", self.module)
