"""What does an attack cost? Passes of the victim per sample."""

from medadv.attacks.best import answered_at
from medadv.attacks.sea import LOSSES, stages
from medadv.spec.attack import AttackSettings


def passes(settings: AttackSettings) -> tuple[int, int]:
    """Forward and backward passes of the victim per sample, over all restarts.

    Of an ensemble the most, with its looks at every member's end: a class that is wrong needs no further member.
    """
    if settings.members:
        forward, backward = (sum(kind) for kind in zip(*(passes(member) for member in settings.members), strict=True))
        return forward + len(settings.members) + 1 + (settings.start is not None), backward
    if settings.fit is not None:
        # What it took to fit it was paid once for all samples.
        return 0, 0
    # The clean answer tells which classes to drive towards.
    aims = 1 if settings.target_classes else 0
    if settings.attack == "square":
        return aims + settings.restarts * (1 + settings.steps + (settings.restarts > 1)), 0
    if settings.attack == "sea":
        runs = [passes(stage) for loss in LOSSES for stage in stages(settings, loss)]
        return settings.restarts * sum(forward for forward, _ in runs), settings.restarts * sum(backward for _, backward in runs)
    branches = settings.steps if settings.weight else 0
    if settings.smooth == "last_step" and branches:
        branches -= 1  # before the first step there is none to smooth
    forward, backward = settings.steps + branches, settings.steps + (0 if settings.stop_gradient else branches)
    return aims + settings.restarts * (forward + _looks(settings)), settings.restarts * backward


def _looks(settings: AttackSettings) -> int:
    """Forward passes that only tell how good a candidate is: the last iterate, and every one whose gradient was taken elsewhere."""
    if settings.keep == "best":
        return 1 + sum(not answered_at(settings, number) for number in range(settings.steps))
    return 1 if settings.restarts > 1 else 0


def fitting_passes(settings: AttackSettings) -> tuple[int, int]:
    """Forward and backward passes per fitted sample that a universal perturbation takes before anything is attacked."""
    return passes(settings.alone)
