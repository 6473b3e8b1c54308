"""What does a step follow? Loss deviation at the example, loss stabilization between it and its smoothed version."""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from medadv.attacks.diversity import Placings, place
from medadv.attacks.objective import Objective
from medadv.attacks.smoothing import smooth
from medadv.spec.attack import AttackSettings
from medadv_transforms.units import Lattice

# The perturbation before the last step, and that step before projection.
Trail = tuple[Tensor, Tensor]


def loss_terms(
    objective: Objective,
    images: Tensor,
    delta: Tensor,
    targets: Any,
    settings: AttackSettings,
    lattice: Lattice,
    kernels: Sequence[Tensor],
    trail: Trail | None,
    progress: float = 0.0,
    placings: Placings = (),
) -> tuple[Tensor, Tensor | None, Any]:
    """Both loss terms at x = image + delta, each (n,), and the victim's outputs there.

    progress: share of the steps that are done.  placings: how each image is seen, by both branches alike, since their difference is what
    smoothing does; empty: as it is.
    """
    example = images + delta
    smoothed = _smoothed(images, delta, settings, lattice, kernels, trail) if settings.weight else None
    if placings:
        example = place(example, placings, lattice.low)
        smoothed = None if smoothed is None else place(smoothed, placings, lattice.low)

    def met(outputs: Any) -> tuple[Any, Any]:
        return objective.meet(outputs, targets, placings) if placings else (outputs, targets)

    if smoothed is None:
        outputs, truth = met(objective.forward(example))
        return objective.deviation(outputs, truth, settings, progress), None, outputs
    if settings.stop_gradient:
        with torch.no_grad():
            target = objective.reference(met(objective.forward(smoothed.detach()))[0])
        outputs, truth = met(objective.forward(example))
        return objective.deviation(outputs, truth, settings, progress), objective.divergence(target, outputs, settings), outputs
    # Both branches in one pass: twice the batch costs less than two passes.
    pair = torch.cat([example, smoothed])
    del example, smoothed  # whole volumes, not needed any more
    both = objective.forward(pair)
    del pair
    (outputs, truth), (target, _) = (met(half) for half in objective.split(both, len(images)))
    return objective.deviation(outputs, truth, settings, progress), objective.divergence(target, outputs, settings), outputs


def _smoothed(
    images: Tensor, delta: Tensor, settings: AttackSettings, lattice: Lattice, kernels: Sequence[Tensor], trail: Trail | None
) -> Tensor | None:
    if settings.smooth == "image":
        return smooth(images + delta, kernels)
    if settings.smooth == "last_step":
        # See `smia-listing` in spec/attack.py: the example before its last step, moved by that step smoothed. There is none at first.
        if trail is None:
            return None
        before, move = trail
        return (images + before + smooth(move, kernels)).clamp(lattice.low, lattice.high)
    return (images + smooth(delta, kernels)).clamp(lattice.low, lattice.high)
