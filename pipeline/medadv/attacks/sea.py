"""How are masks attacked with all there is? By APGD on four losses, each in balls that shrink to the real one; the worst answer is kept.

Croce, Singh, Hein: Robust Semantic Segmentation: Strong Adversarial Attacks and Fast Training of Robust Models, 2023 (arXiv 2306.12941).
Each loss begins at the sample's start, and each ball at what was worst for the victim in the one before, brought inside. Only what lies
within the real bounds is a candidate. The authors judge by the share of pixels that are right; here it is `standing`, by Dice.
"""

from collections.abc import Iterator, Sequence
from functools import partial

from torch import Tensor

from medadv.attacks.apgd import apgd
from medadv.attacks.best import Best
from medadv.attacks.feasible import to_integers
from medadv.attacks.problem import Problem
from medadv.attacks.sign_steps import Watch
from medadv.spec.attack import AttackSettings

LOSSES = ("segpgd", "masked_ce", "js", "masked_spherical")
BALLS = ((2.0, 3), (1.5, 3), (1.0, 4))
"""Radii as multiples of epsilon, each with its share of the steps in tenths."""


def stages(settings: AttackSettings, loss: str) -> Iterator[AttackSettings]:
    """The runs of APGD on one loss, in order; together they have the steps of the settings."""
    left = settings.steps
    for factor, tenths in BALLS:
        steps = left if factor == 1 else settings.steps * tenths // 10
        left -= steps
        if steps:
            changes = {"epsilon": factor * settings.epsilon, "step": factor * settings.step, "steps": steps, "loss": loss}
            yield settings.model_copy(update={**changes, "attack": "apgd", "keep": "best", "restarts": 1})


def sea(problem: Problem, start: Tensor, seeds: Sequence[int], best: Best | None, watch: Watch | None) -> Tensor:
    """The perturbation after the last step of the last loss, unrounded.

    start: (n, C, *spatial), within the bounds and whole.  seeds: not drawn from.  best: is offered every iterate within the bounds but that
    one.  watch: sees each iterate as it lies within the bounds.
    """
    assert best is not None, "sea keeps the worst answer"
    end, done = start, 0
    for number, loss in enumerate(LOSSES):
        if number:
            best.offer(end)
        at = start.detach()
        for stage in stages(problem.settings, loss):
            within = problem.within(stage)
            real = stage.epsilon == problem.settings.epsilon
            kept = best if real else Best(within)
            begin = to_integers(at, within.low, within.high).to(start)
            end = apgd(within, begin, seeds, kept, None if watch is None else partial(_watched, watch, problem, done))
            done += stage.steps
            if not real:
                kept.offer(end)
                assert kept.delta is not None
                at = kept.delta
    return end


def _watched(watch: Watch, problem: Problem, done: int, number: int, delta: Tensor, deviation: Tensor, divergence: Tensor | None) -> None:
    watch(done + number, problem.inside(delta), deviation, divergence)
