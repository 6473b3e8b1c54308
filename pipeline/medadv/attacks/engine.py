"""The attack: from starts to the perturbation that is kept, by the algorithm of a name.

Most names are settings of sign-gradient steps on the lattice against loss deviation and loss stabilization:

    x_t = u + d_t                 s_t = clip(u + G * d_t)
    J   = sum over samples [ deviation(f(N(x_t)), y) - weight * D( f(N(s_t)) || f(N(x_t)) ) ]
    d_{t+1} = project( d_t + step * sign(grad J) )

Qi, Gong, Song, Ma, Zheng: Stabilized Medical Image Attacks, ICLR 2021 (arXiv 2103.05232). With weight 0 it is PGD (arXiv 1706.06083).
An algorithm of its own is a module beside sign_steps.py, and a branch in `_climb`.
"""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from medadv.attacks.apgd import apgd
from medadv.attacks.best import Best
from medadv.attacks.feasible import restart_seed, to_integers
from medadv.attacks.objective import Objective
from medadv.attacks.problem import Problem
from medadv.attacks.sea import sea
from medadv.attacks.sign_steps import Watch, sign_steps
from medadv.attacks.square import square, stripes
from medadv.attacks.untouched import untouched
from medadv.spec.attack import AttackSettings
from medadv_transforms.units import Lattice

__all__ = ["Watch", "perturb"]


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
    start: Tensor | None = None,
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
        start: (n, C, *spatial) perturbation to begin with, in place of the first start; brought inside the bounds.
        watch: receives the iterate and both loss terms of each step.

    Returns:
        (n, C, *spatial) int16 perturbation: |d| <= epsilon exactly and image + d within the lattice's range.

    Raises:
        ValueError: images off the lattice, seeds that do not fit, mm without spacing, a loss or a class that the victim does not have.
    """
    _check(images, seeds, lattice, settings, spacing_mm)
    problem = Problem.of(objective, images, targets, settings, lattice, region, spacing_mm)
    if settings.epsilon == 0 or not len(images):
        return to_integers(images.new_zeros(images.shape), problem.low, problem.high)
    # What `square` ends at is the best of all that it has seen.
    keeps_best = settings.keep == "best" and settings.attack != "square"
    best = Best(problem) if keeps_best or settings.restarts > 1 else None
    with untouched(objective.module):
        clean = _answers(problem) if settings.target_classes else None
        for restart in range(settings.restarts):
            drawn = [restart_seed(seed, restart) for seed in seeds]
            # On the lattice, also where it comes from a larger ball than one of fractional epsilon.
            begin = _start(problem, drawn) if start is None or restart else to_integers(start, problem.low, problem.high).to(images)
            aimed = problem.aimed(clean, restart % settings.target_classes) if settings.target_classes else problem
            delta = _climb(aimed, begin, drawn, best, watch)
            if best is not None:
                best.offer(delta)
    if best is None:
        return to_integers(delta, problem.low, problem.high)
    assert best.delta is not None
    return best.delta


def _answers(problem: Problem) -> Any:
    """What the victim says of the images as they are."""
    with torch.no_grad():
        return problem.objective.reference(problem.objective.forward(problem.images))


def _start(problem: Problem, seeds: Sequence[int]) -> Tensor:
    """Where an attack begins, by the algorithm of that name."""
    return stripes(problem, seeds) if problem.settings.attack == "square" else problem.start(seeds)


def _climb(problem: Problem, start: Tensor, seeds: Sequence[int], best: Best | None, watch: Watch | None) -> Tensor:
    """From one start to its end, by the algorithm of that name."""
    if problem.settings.attack == "apgd":
        return apgd(problem, start, seeds, best, watch)
    if problem.settings.attack == "square":
        return square(problem, start, seeds, best, watch)
    if problem.settings.attack == "sea":
        return sea(problem, start, seeds, best, watch)
    return sign_steps(problem, start, seeds, best, watch)


def _check(images: Tensor, seeds: Sequence[int], lattice: Lattice, settings: AttackSettings, spacing_mm: Sequence[float] | None) -> None:
    if settings.members:
        raise ValueError("an ensemble chooses among the ends of its members: give each of settings.members by itself")
    if settings.fit is not None:
        raise ValueError("a universal perturbation is fitted to many images while a run is planned; take another attack for a batch")
    if not images.is_floating_point():
        raise ValueError(f"images are {images.dtype}; the engine takes floating point in stored units")
    if len(seeds) != len(images):
        raise ValueError(f"{len(seeds)} seeds for {len(images)} images")
    if images.numel() and not bool(((images >= lattice.low) & (images <= lattice.high) & (images == images.round())).all()):
        raise ValueError(f"images are not on the lattice [{lattice.low}, {lattice.high}] of unit {lattice.unit}: give stored units")
    if settings.sigma_unit == "mm" and settings.weight and spacing_mm is None:
        raise ValueError("sigma_unit: mm needs the voxel spacing, and these images have none; use sigma_unit: voxel")
