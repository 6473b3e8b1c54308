"""How does APGD climb? Sign-gradient steps with momentum, halved at checkpoints where they stopped paying, and begun anew from the best.

Croce, Hein: Reliable evaluation of adversarial robustness with an ensemble of diverse parameter-free attacks, ICML 2020 (arXiv 2003.01690,
algorithm 1), in L-infinity. Where paper and authors' code differ it is said below. Iterates are floats within the bounds; every decision is
each sample's own and stays on the device.
"""

from collections.abc import Sequence

import torch
from torch import Tensor

from medadv.attacks.best import Best
from medadv.attacks.problem import Problem, Slope
from medadv.attacks.sign_steps import Watch
from medadv.spec.attack import OF_MASKS

MOMENTUM = 0.75
"""Share of a step that is new; the rest is the step before."""
RISES = 0.75
"""Share of the steps since the last checkpoint that have to raise the loss, else the next ones are shorter."""


def periods(steps: int) -> list[int]:
    """Numbers of the iterates at which the step may be halved: after 22 % of the steps, then after ever fewer, down to 6 %."""
    period, shortest, less = (max(int(share * steps), 1) for share in (0.22, 0.06, 0.03))
    found, at = [], period
    while at < steps:
        found.append(at)
        period = max(period - less, shortest)
        at += period
    return found


def apgd(problem: Problem, start: Tensor, seeds: Sequence[int], best: Best | None, watch: Watch | None) -> Tensor:
    """The perturbation after the last step, unrounded.

    start: (n, C, *spatial), within the bounds.  seeds: not drawn from.  best: is offered every iterate but the last where the settings keep
    the best.
    """
    settings, each = problem.settings, (-1, *[1] * (start.ndim - 1))
    checkpoints = periods(settings.steps)
    offered = best is not None and settings.keep == "best"
    delta = before = start
    step = start.new_full((len(start),), settings.step)
    rises = torch.zeros_like(step)
    halved = torch.zeros_like(step, dtype=torch.bool)
    since = 0
    for number in range(settings.steps):
        slope = problem.slope(delta, None, number / settings.steps, answered=offered or settings.loss in OF_MASKS)
        delta = delta.detach()
        with torch.no_grad():
            if best is not None and offered:
                # The start alone is whole.
                best.offer(delta, None if number else slope.outputs)
            if watch is not None:
                watch(number, delta, slope.deviation, slope.divergence)
            gradient, loss = torch.nan_to_num(slope.gradient, nan=0.0, posinf=0.0, neginf=0.0), checkpoint_loss(problem, slope)
            if not number:
                top, top_delta, top_gradient = loss, delta, gradient
                checked = last = loss
            # The authors' code holds the first iterate after the start against 0 here; the paper against the start.
            rises = rises + (loss > last)
            last, better = loss, loss > top
            top, where = torch.where(better, loss, top), better.view(each)
            top_delta, top_gradient = torch.where(where, delta, top_delta), torch.where(where, gradient, top_gradient)
            if number in checkpoints:
                # As many rises as the share count as too few in the authors' code, and here; in the paper they are enough.
                halved = (rises <= RISES * (number - since)) | (~halved & (checked >= top))
                step = torch.where(halved, step / 2, step)
                where = halved.view(each)
                delta, gradient = torch.where(where, top_delta, delta), torch.where(where, top_gradient, gradient)
                checked, rises, since = top, torch.zeros_like(rises), number
            ahead = problem.inside(delta + step.view(each) * gradient.sign())
            # Before the first step there is none to go on with.
            new = MOMENTUM if number else 1.0
            moved = problem.inside(delta + new * (ahead - delta) + (1 - new) * (delta - before))
            before, delta = delta, moved
    return delta


def checkpoint_loss(problem: Problem, slope: Slope) -> Tensor:
    """The loss that checkpoints and the best iterate go by, (n,): the attack's own, without stabilization.

    Losses of masks weigh voxels by what is answered there, and some by the step, so that no two iterates are measured alike: plain
    cross-entropy stands in for them, as in SEA (arXiv 2306.12941).
    """
    if problem.settings.loss not in OF_MASKS:
        return slope.deviation
    return problem.objective.standing(slope.outputs, problem.targets, problem.settings)[1]
