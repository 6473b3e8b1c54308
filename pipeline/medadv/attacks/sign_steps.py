"""How does the plain attack climb? A fixed number of sign-gradient steps of one length, each projected onto the bounds."""

from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from medadv.attacks.best import Best, answered_at
from medadv.attacks.diversity import Placings, draw_placings
from medadv.attacks.problem import Problem
from medadv.attacks.rules import step_along
from medadv.attacks.smoothing import axis_kernels
from medadv.attacks.terms import Trail

# Called after each gradient with the step's number, the perturbation it was taken at, and both detached terms (n,), the second None when
# the attack has no such term.
Watch = Callable[[int, Tensor, Tensor, Tensor | None], None]


def sign_steps(problem: Problem, start: Tensor, seeds: Sequence[int], best: Best | None, watch: Watch | None) -> Tensor:
    """The perturbation after the last step.

    start: (n, C, *spatial), within the bounds; written to.  best: is offered every iterate but the last where the settings keep the best.
    """
    settings, delta = problem.settings, start
    gradient_kernels = axis_kernels(settings.gradient_sigma or 1.0, settings.gradient_kernel_size, None, delta.ndim - 2)
    momentum = torch.zeros_like(delta) if settings.momentum else None
    trail: Trail | None = None
    seen = _seen(problem, seeds)
    for number in range(settings.steps):
        offered = best is not None and settings.keep == "best"
        at = delta if momentum is None or not settings.nesterov else delta + settings.step * settings.momentum * momentum
        slope = problem.slope(at, trail, number / settings.steps, seen[number], answered=offered and answered_at(settings, number))
        del at
        with torch.no_grad():
            if best is not None and offered:
                best.offer(delta, slope.outputs)
            if watch is not None:
                # A copy, since the iterate itself moves on in place.
                watch(number, delta.clone(), slope.deviation, slope.divergence)
            move = step_along(slope.gradient, settings, gradient_kernels, momentum)
            del slope
            trail = (delta.clone(), move) if settings.weight and settings.smooth == "last_step" else None
            delta.add_(move)
            torch.clamp(delta, problem.low, problem.high, out=delta)
    return delta.detach()


def _seen(problem: Problem, seeds: Sequence[int]) -> list[Placings]:
    """How each step sees the images; empty: as they are."""
    settings = problem.settings
    if not settings.diversity:
        return [()] * settings.steps
    drawn = [draw_placings(problem.images.shape[2:], settings.steps, settings.diversity, seed) for seed in seeds]
    return list(zip(*drawn, strict=True))
