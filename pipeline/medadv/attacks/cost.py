"""What does an attack cost? Passes of the victim per sample."""

from medadv.spec.attack import AttackSettings


def passes(settings: AttackSettings) -> tuple[int, int]:
    """Forward and backward passes of the victim per sample."""
    branches = settings.steps if settings.weight else 0
    if settings.smooth == "last_step" and branches:
        branches -= 1  # before the first step there is none to smooth
    return settings.steps + branches, settings.steps + (0 if settings.stop_gradient else branches)
