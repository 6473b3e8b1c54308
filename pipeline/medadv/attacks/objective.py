"""What the engine asks of a victim: outputs, loss deviation and divergence, each per sample."""

from typing import Any, Protocol

from torch import Tensor, nn

from medadv.attacks.diversity import Placings
from medadv.spec.attack import AttackSettings


class Objective(Protocol):
    """The differentiable side of a victim. `Outputs` are whatever `forward` returns; only the victim looks inside."""

    @property
    def module(self) -> nn.Module:
        """Everything with parameters, the normalisation included."""
        ...

    def forward(self, images: Tensor) -> Any:
        """Differentiable outputs for images (n, C, *spatial) in stored units."""
        ...

    def split(self, outputs: Any, n: int) -> tuple[Any, Any]:
        """Outputs of the first n images, and of the rest."""
        ...

    def meet(self, outputs: Any, targets: Any, placings: Placings) -> tuple[Any, Any]:
        """Outputs and truth on one grid, where each image was seen elsewhere on its own: dense answers brought back, or boxes moved."""
        ...

    def deviation(self, outputs: Any, targets: Any, settings: AttackSettings, progress: float = 0.0) -> Tensor:
        """Loss deviation of each sample, (n,): larger is farther from the truth, or nearer to the goal.

        progress: share of the steps that are done, for losses that change on the way.
        """
        ...

    def divergence(self, smoothed: Any, example: Any, settings: AttackSettings) -> Tensor:
        """D(smoothed || example) of each sample, (n,): 0 where both predictions agree."""
        ...

    def standing(self, outputs: Any, targets: Any, settings: AttackSettings) -> tuple[Tensor, Tensor]:
        """How wrong each answer is by the truth, and the loss that tells equals apart: (n,) each, larger is worse for the victim.

        The loss is one and the same whatever an attack ascends: unweighted, without stabilization. Where the attack has a goal, both say
        how near the answer is to it.
        """
        ...

    def seen(self, images: Tensor, targets: Any, settings: AttackSettings) -> tuple[Tensor, Tensor]:
        """What a black box that is asked about images gives away, (n,) each, larger is worse for the victim: how wrong its answer is, of
        which 1 is the most that there is, and a score that tells equals apart."""
        ...

    def aimed(self, outputs: Any, targets: Any, rank: int) -> Any:
        """Targets by which `deviation` drives each sample towards one wrong class.

        outputs: for the clean images.  rank: 0 for the likeliest wrong class, 1 for the next.  ValueError: there is no such class.
        """
        ...

    def reference(self, outputs: Any) -> Any:
        """Detached outputs, fit to be a constant target of `divergence`."""
        ...
