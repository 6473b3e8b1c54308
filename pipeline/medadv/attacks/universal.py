"""How does one perturbation for many images move? A sign step a batch, along the gradient of the samples' bounded losses.

Shafahi, Najibi, Xu, Dickerson, Davis, Goldstein: Universal Adversarial Training, AAAI 2020 (arXiv 1811.11304), algorithm 1 without the
training: stochastic gradient ascent of sum over samples of min(loss, bound), so that images that are lost already do not decide. What it
does to medical images: Hirano, Minagi, Takemoto 2021 (doi 10.1186/s12880-020-00530-y).
"""

import torch
from torch import Tensor

from medadv.attacks.feasible import feasible_box, random_start, to_integers
from medadv.attacks.problem import Problem
from medadv.attacks.rules import step_along
from medadv.attacks.smoothing import axis_kernels
from medadv.attacks.untouched import untouched
from medadv.spec.attack import AttackSettings
from medadv_transforms.units import Lattice


def first(shape: tuple[int, ...], settings: AttackSettings, seed: int) -> Tensor:
    """Where the fit begins, (C, *spatial) float32: at nothing, or at one random perturbation."""
    return random_start(shape, settings.epsilon, seed).float() if settings.random_start else torch.zeros(shape)


def step(problem: Problem, universal: Tensor, region: Tensor | None, progress: float) -> Tensor:
    """The perturbation after one step along a batch.

    problem: of the batch, whose bounds are those of its samples.  universal: (C, *spatial), on the images' device.  region: as the problem
    was made with it.  progress: share of the steps that are done.  Nothing is read back from the device.
    """
    settings = problem.settings
    with untouched(problem.objective.module):
        slope = problem.slope(problem.inside(universal.expand_as(problem.images)), None, progress)
    with torch.no_grad():
        gradient = torch.nan_to_num(slope.gradient, nan=0.0, posinf=0.0, neginf=0.0)
        if settings.loss_bound is not None:
            counts = slope.deviation < settings.loss_bound
            gradient = gradient * counts.view(-1, *[1] * (gradient.ndim - 1))
        together = (gradient * _moves(problem, universal, gradient, region)).sum(0, keepdim=True)
        kernels = axis_kernels(settings.gradient_sigma or 1.0, settings.gradient_kernel_size, None, together.ndim - 2)
        moved = universal + step_along(together, settings, kernels, None)[0]
        return moved.clamp(-settings.epsilon, settings.epsilon)


def laid_on(universal: Tensor, images: Tensor, settings: AttackSettings, lattice: Lattice, region: Tensor | None) -> Tensor:
    """What each image is given of it: inside its own bounds.

    universal: (C, *spatial), whole.  images: (n, C, *spatial) on the lattice.  region: (n, 1, *spatial), nonzero where perturbing is
    allowed.  Returns (n, C, *spatial) int16.
    """
    low, high = feasible_box(images, settings.epsilon, lattice, region)
    return to_integers(universal.to(images).expand_as(images), low, high)


def finished(universal: Tensor, epsilon: float) -> Tensor:
    """The perturbation on the lattice, (C, *spatial) int16."""
    edge = torch.full_like(universal, epsilon)
    return to_integers(universal, -edge, edge)


def _moves(problem: Problem, universal: Tensor, gradient: Tensor, region: Tensor | None) -> Tensor:
    """Where a step along the gradient's sign moves the image itself: not beyond the range of its values, nor outside its region.

    The ball is left out: at its edge a sample still says which way is up.
    """
    images, lattice = problem.images, problem.lattice
    low, high = lattice.low - images, lattice.high - images
    up = (universal >= low) & (universal < high)
    down = (universal > low) & (universal <= high)
    moves = torch.where(gradient > 0, up, down)
    return moves if region is None else moves & (region != 0)
