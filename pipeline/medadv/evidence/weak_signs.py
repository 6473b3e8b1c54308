"""What do the sanity checks' own numbers say of an attack? One sentence for each sign that it is weaker than it looks."""

import itertools

from medadv.corpus.manifest import SanityReport
from medadv.spec.attack import AttackSettings

NEARLY_ALL = 0.9
SLACK = 0.1
SLACK_SAMPLES = 2.5
"""Differences in success below `SLACK`, or below this many samples, say nothing on so few."""
ZERO_SHARE = 0.5
CLAMPED_SHARE = 0.1


def ladder_name(name: str, settings: AttackSettings) -> str:
    """What the checks call the attack that they climb with: of an ensemble its first member, which is let loose on every sample."""
    return f"{name}: {settings.members[0].attack}" if settings.members else name


def warnings_of(found: SanityReport) -> list[str]:
    """What a reader should be told, one sentence each; follows from the rest of the report."""
    texts = []
    slack = max(SLACK, SLACK_SAMPLES / found.samples)
    ladder = [rung.success for rung in found.epsilon_ladder or ()]
    if any(later < earlier - slack for earlier, later in itertools.pairwise(ladder)):
        texts.append("A larger epsilon succeeds less often: the attack may be caught by masked gradients.")
    steps = [rung.success for rung in found.steps_ladder or ()]
    if any(later < earlier - slack for earlier, later in itertools.pairwise(steps)):
        texts.append("More steps succeed less often: the step may be too long for the ball.")
    if len(steps) > 1 and steps[-1] > steps[-2] + slack:
        texts.append("Twice the steps succeed clearly more often: the attack has not converged; take more steps.")
    if found.epsilon_zero_is_identity is False:
        texts.append("Epsilon 0 changed images: this is a defect.")
    if (huge := found.huge_epsilon) and huge.success < NEARLY_ALL:
        texts.append(f"Even epsilon {huge.epsilon:g} fails on some samples: gradients may be masked.")
    if (noise := found.noise) and noise.success > noise.white_box - slack and noise.success > 0:
        texts.append("Random noise of the same size succeeds about as often as the attack.")
    if (transfer := found.transfer) and transfer.success > transfer.white_box:
        texts.append("The second model is fooled more often than the victim: its gradients may be masked.")
    texts += [text for text in (zero_sign(found.zero_gradients), clamped_sign(found.clamped)) if text]
    return texts


def zero_sign(share: float | None) -> str | None:
    """What to say of the share of voxels whose gradient is exactly zero; None where that is no sign, or was not measured."""
    if share is None or share <= ZERO_SHARE:
        return None
    return f"{share:.0%} of the gradients are exactly zero: the attack does not see those voxels."


def clamped_sign(share: float | None) -> str | None:
    """What to say of the share of a victim's probabilities that are 0 or 1; None where that is no sign, or was not measured."""
    if share is None or share <= CLAMPED_SHARE:
        return None
    return f"{share:.0%} of the victim's probabilities are exactly 0 or 1, where no gradient passes: attack its logits, if they can be had."
