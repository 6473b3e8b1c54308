"""The attack: sign-gradient steps on the lattice against loss deviation and loss stabilization.

    x_t = u + d_t                 s_t = clip(u + G * d_t)
    J   = sum over samples [ deviation(f(N(x_t)), y) - weight * D( f(N(s_t)) || f(N(x_t)) ) ]
    d_{t+1} = project( d_t + step * sign(grad J) )

Qi, Gong, Song, Ma, Zheng: Stabilized Medical Image Attacks, ICLR 2021 (arXiv 2103.05232). With weight 0 it is PGD (arXiv 1706.06083).
"""

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor

from medadv.attacks.best import Best, keeps_whole
from medadv.attacks.feasible import feasible_box, random_start, restart_seed, to_integers
from medadv.attacks.objective import Objective
from medadv.attacks.rules import step_along
from medadv.attacks.smoothing import axis_kernels
from medadv.attacks.terms import Trail, loss_terms
from medadv.attacks.untouched import untouched
from medadv.spec.attack import AttackSettings
from medadv_transforms.units import Lattice

# Called after each gradient with the step's number, the perturbation it was taken at, and both detached terms (n,), the second None when
# the attack has no such term.
Watch = Callable[[int, Tensor, Tensor, Tensor | None], None]


def perturb(
    objective: Objective,
    images: Tensor,
    targets: Any,
    settings: AttackSettings,
    *,
    lattice: Lattice,
    seeds: Sequence[int],
    region: Tensor | None = None,
    spacing_mm: Sequence[float] | None = None,
    watch: Watch | None = None,
) -> Tensor:
    """Attack a batch; the victim is left as it was found.

    Args:
        objective: the victim's differentiable side.
        images: (n, C, *spatial) floating point, stored units, values on the lattice.
        targets: the truth, in the form that the objective's `deviation` takes.
        settings: epsilon and step in stored units.
        lattice: range of the stored units.
        seeds: one per sample, for its random start alone; further restarts draw from seeds that follow from it.
        region: (n, 1, *spatial), nonzero where perturbing is allowed; None is everywhere.
        spacing_mm: voxel spacing, read when `sigma_unit` is mm.
        watch: receives the iterate and both loss terms of each step.

    Returns:
        (n, C, *spatial) int16 perturbation: |d| <= epsilon exactly and image + d within the lattice's range.

    Raises:
        ValueError: images off the lattice, seeds that do not fit, mm without spacing.
    """
    _check(images, seeds, lattice, settings, spacing_mm)
    low, high = feasible_box(images, settings.epsilon, lattice, region)
    if settings.epsilon == 0 or not len(images):
        return to_integers(torch.zeros_like(images), low, high)
    kernels = axis_kernels(settings.sigma, settings.kernel_size, spacing_mm if settings.sigma_unit == "mm" else None, images.ndim - 2)
    best = Best(objective, images, targets, low, high) if settings.keep == "best" or settings.restarts > 1 else None
    with untouched(objective.module):
        for restart in range(settings.restarts):
            delta = _start(images, settings, [restart_seed(seed, restart) for seed in seeds], low, high)
            delta = _ascend(objective, images, targets, settings, lattice, delta, low, high, kernels, watch, best)
            if best is not None:
                best.offer(delta)
    if best is None:
        return to_integers(delta, low, high)
    assert best.delta is not None
    return best.delta


def _start(images: Tensor, settings: AttackSettings, seeds: Sequence[int], low: Tensor, high: Tensor) -> Tensor:
    if not settings.random_start:
        return torch.zeros_like(images)
    starts = [random_start(images.shape[1:], settings.epsilon, seed) for seed in seeds]
    return torch.minimum(torch.maximum(torch.stack(starts).to(images), low), high)


def _ascend(
    objective: Objective,
    images: Tensor,
    targets: Any,
    settings: AttackSettings,
    lattice: Lattice,
    delta: Tensor,
    low: Tensor,
    high: Tensor,
    kernels: Sequence[Tensor],
    watch: Watch | None,
    best: Best | None,
) -> Tensor:
    gradient_kernels = axis_kernels(settings.gradient_sigma or 1.0, settings.gradient_kernel_size, None, images.ndim - 2)
    momentum = torch.zeros_like(images) if settings.momentum else None
    trail: Trail | None = None
    whole = keeps_whole(settings)
    delta.requires_grad_()
    for number in range(settings.steps):
        deviation, divergence, outputs = loss_terms(objective, images, delta, targets, settings, lattice, kernels, trail)
        if best is not None and settings.keep == "best":
            # The start is whole whatever the steps are.
            best.offer(delta, outputs if whole or not number else None)
        del outputs
        try:
            (gradient,) = torch.autograd.grad(_value(deviation, divergence, settings), delta)
        except RuntimeError as error:
            # What torch says of reentrant gradient checkpoints, which know `backward` alone.
            if "checkpoint" not in str(error).lower() or ".grad()" not in str(error):
                raise
            # Anew: the failed pass has freed parts of the graph.
            deviation, divergence, _ = loss_terms(objective, images, delta, targets, settings, lattice, kernels, trail)
            _value(deviation, divergence, settings).backward()
            assert delta.grad is not None
            gradient, delta.grad = delta.grad, None
        with torch.no_grad():
            if watch is not None:
                # A copy, since the iterate itself moves on in place.
                watch(number, delta.clone(), deviation.detach(), None if divergence is None else divergence.detach())
            move = step_along(gradient, settings, gradient_kernels, momentum)
            del gradient
            trail = (delta.clone(), move) if settings.weight and settings.smooth == "last_step" else None
            delta.add_(move)
            torch.clamp(delta, low, high, out=delta)
    return delta.detach()


def _value(deviation: Tensor, divergence: Tensor | None, settings: AttackSettings) -> Tensor:
    """J: what the steps raise."""
    return deviation.sum() if divergence is None else (deviation - settings.weight * divergence).sum()


def _check(images: Tensor, seeds: Sequence[int], lattice: Lattice, settings: AttackSettings, spacing_mm: Sequence[float] | None) -> None:
    if not images.is_floating_point():
        raise ValueError(f"images are {images.dtype}; the engine takes floating point in stored units")
    if len(seeds) != len(images):
        raise ValueError(f"{len(seeds)} seeds for {len(images)} images")
    if images.numel() and not bool(((images >= lattice.low) & (images <= lattice.high) & (images == images.round())).all()):
        raise ValueError(f"images are not on the lattice [{lattice.low}, {lattice.high}] of unit {lattice.unit}: give stored units")
    if settings.sigma_unit == "mm" and settings.weight and spacing_mm is None:
        raise ValueError("sigma_unit: mm needs the voxel spacing, and these images have none; use sigma_unit: voxel")
