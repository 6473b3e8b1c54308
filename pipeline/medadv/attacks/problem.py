"""What is solved? One batch and its victim, the bounds of each voxel, and what the attack's settings say of the loss."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor

from medadv.attacks.diversity import Placings
from medadv.attacks.feasible import feasible_box, random_start
from medadv.attacks.objective import Objective
from medadv.attacks.smoothing import axis_kernels
from medadv.attacks.terms import Trail, loss_terms
from medadv.spec.attack import AttackSettings
from medadv_transforms.units import Lattice


@dataclass(frozen=True, eq=False)
class Slope:
    """What the victim says of one iterate.

    gradient: of J, the shape of the images.  deviation: (n,).  divergence: (n,), None without such a term.  outputs: detached, None where
    nobody asked for them: of a volume they may be larger than all the rest.
    """

    gradient: Tensor
    deviation: Tensor
    divergence: Tensor | None
    outputs: Any


@dataclass(frozen=True, eq=False)
class Problem:
    """Images under attack, to which every algorithm adds a perturbation within the same bounds.

    images: (n, C, *spatial) floating point, stored units.  targets: the truth or the goal, as the objective takes it.  low, high: lowest
    and highest perturbation of every voxel.  kernels: of the smoothed branch, one an axis.
    """

    objective: Objective
    images: Tensor
    targets: Any
    settings: AttackSettings
    lattice: Lattice
    low: Tensor
    high: Tensor
    kernels: Sequence[Tensor]

    @classmethod
    def of(
        cls,
        objective: Objective,
        images: Tensor,
        targets: Any,
        settings: AttackSettings,
        lattice: Lattice,
        region: Tensor | None,
        spacing_mm: Sequence[float] | None,
    ) -> "Problem":
        """With bounds and kernels that follow from the settings.  region, spacing_mm: as `perturb` takes them."""
        low, high = feasible_box(images, settings.epsilon, lattice, region)
        in_mm = settings.sigma_unit == "mm"
        kernels = axis_kernels(settings.sigma, settings.kernel_size, spacing_mm if in_mm else None, images.ndim - 2)
        return cls(objective, images, targets, settings, lattice, low, high, kernels)

    def inside(self, delta: Tensor) -> Tensor:
        """The nearest perturbation within the bounds."""
        return torch.minimum(torch.maximum(delta, self.low), self.high)

    def within(self, settings: AttackSettings) -> "Problem":
        """The same images in another ball, by other settings."""
        if settings.epsilon == self.settings.epsilon:
            return replace(self, settings=settings)
        # Whatever may be perturbed at all may be so in one direction at least.
        allowed = self.low < self.high
        low = (self.lattice.low - self.images).clamp_(min=-settings.epsilon, max=0) * allowed
        high = (self.lattice.high - self.images).clamp_(min=0, max=settings.epsilon) * allowed
        return replace(self, settings=settings, low=low, high=high)

    def start(self, seeds: Sequence[int]) -> Tensor:
        """Where the settings say that an attack starts: at the images, or at each sample's own random perturbation, which is whole."""
        if not self.settings.random_start:
            return torch.zeros_like(self.images)
        starts = [random_start(self.images.shape[1:], self.settings.epsilon, seed) for seed in seeds]
        return self.inside(torch.stack(starts).to(self.images))

    def slope(
        self, delta: Tensor, trail: Trail | None = None, progress: float = 0.0, placings: Placings = (), *, answered: bool = False
    ) -> Slope:
        """Gradient of J at a perturbation, in one or two passes.

        delta: (n, C, *spatial); is given `requires_grad`.  trail: what went before, for `smooth: last_step`.  progress: share of the steps
        that are done, for losses that change on the way.  placings: how each image is seen; empty: as it is.  answered: whether the
        outputs are wanted too.
        """
        delta.requires_grad_()

        def terms() -> tuple[Tensor, Tensor | None, Any]:
            about = (self.objective, self.images, delta, self.targets, self.settings, self.lattice, self.kernels)
            return loss_terms(*about, trail, progress, placings)

        deviation, divergence, outputs = terms()
        kept = self.objective.reference(outputs) if answered else None
        # What hangs on the graph need not outlive the pass through it.
        del outputs
        try:
            (gradient,) = torch.autograd.grad(self._value(deviation, divergence), delta)
        except RuntimeError as error:
            # What torch says of reentrant gradient checkpoints, which know `backward` alone.
            if "checkpoint" not in str(error).lower() or ".grad()" not in str(error):
                raise
            # Anew: the failed pass has freed parts of the graph.
            deviation, divergence, _ = terms()
            self._value(deviation, divergence).backward()
            assert delta.grad is not None
            gradient, delta.grad = delta.grad, None
        return Slope(gradient, deviation.detach(), None if divergence is None else divergence.detach(), kept)

    def seen(self, delta: Tensor) -> tuple[Tensor, Tensor]:
        """What a black box says of a perturbation (n, C, *spatial): wrongness and score, (n,) each."""
        return self.objective.seen(self.images + delta, self.targets, self.settings)

    def aimed(self, clean: Any, rank: int) -> "Problem":
        """The same problem, driven towards the wrong class of that rank.  clean: the victim's outputs for the images."""
        return replace(self, targets=self.objective.aimed(clean, self.targets, rank))

    def _value(self, deviation: Tensor, divergence: Tensor | None) -> Tensor:
        """J: what the steps raise."""
        return deviation.sum() if divergence is None else (deviation - self.settings.weight * divergence).sum()
