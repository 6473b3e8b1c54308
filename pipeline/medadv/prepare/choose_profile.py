"""Which execution profile a new plan freezes: tried on real samples, once, before any attack counts."""

from collections.abc import Callable
from typing import Any

from medadv.batches.trial import Trial
from medadv.victims.speed.profiles import Profile, candidates
from medadv.victims.victim import Victim

STRENGTH = 0.01
"""How much success, or mean fp32 score, a faster profile may lose: one point."""
Make = Callable[[Profile], Victim]
Tell = Callable[[str], None]


def choose_profile(make: Make, exact: Profile, trial: Trial, tell: Tell) -> tuple[Profile, list[dict[str, Any]]]:
    """The fastest profile whose attacks are as strong as in fp32.

    Args:
        make: a fresh victim in a profile.
        exact: the fp32 profile that the others are held against.
        trial: on what.
        tell: receives a line for each profile that is dropped.

    Returns:
        The choice, and one record per profile: `profile`, `seconds_per_step`, `success` (of the first attack) and `verdict`.
    """
    base = make(exact)
    labels = trial.labels(base)
    seconds: dict[Profile, float] = {}
    records: dict[Profile, dict[str, Any]] = {}
    for profile in [exact, *(p for p in candidates(base.module, trial.device.type) if p != exact)]:
        records[profile] = {"profile": profile.name, "seconds_per_step": None, "success": None, "verdict": "slower"}
        try:
            seconds[profile] = trial.step_seconds(make(profile), labels)
            records[profile]["seconds_per_step"] = round(seconds[profile], 4)
        except Exception as error:  # any backend may fail in its own way; the others are still there
            reason = (str(error) or type(error).__name__).splitlines()[0][:200]
            records[profile]["verdict"] = f"failed: {reason}"
            tell(f"profile {profile.name} is left out: {reason}")
    chosen = exact
    reference = trial.strength(base, labels)
    for profile in sorted(seconds, key=lambda p: seconds[p]):
        found = reference if profile == exact else trial.strength(make(profile), labels)
        records[profile]["success"] = found[0][0]
        if all(s >= s0 - STRENGTH and score <= score0 + STRENGTH for (s, score), (s0, score0) in zip(found, reference, strict=True)):
            chosen = profile
            break
        records[profile]["verdict"] = "weaker"
        tell(f"profile {profile.name} is left out: its attacks are weaker by more than a point")
    records[chosen]["verdict"] = "chosen"
    records[exact]["success"] = reference[0][0]
    return chosen, list(records.values())
