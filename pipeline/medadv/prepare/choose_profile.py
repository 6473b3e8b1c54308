"""Which execution profile a new plan freezes: tried on real samples, once, before any attack counts."""

from collections.abc import Callable

from medadv.batches.trial import Trial
from medadv.common.errors import first_line
from medadv.plan.plan_settings import TuningRecord
from medadv.victims.speed import Profile, candidates
from medadv.victims.victim import Victim

STRENGTH = 0.01
"""How much success, or mean fp32 score, a faster profile may lose: one point."""
Make = Callable[[Profile], Victim]
Tell = Callable[[str], None]


def choose_profile(make: Make, exact: Profile, trial: Trial, tell: Tell) -> tuple[Profile, list[TuningRecord]]:
    """The fastest profile whose attacks are as strong as in fp32.

    Args:
        make: a fresh victim in a profile.
        exact: the fp32 profile that the others are held against.
        trial: on what.
        tell: receives a line for each profile that is dropped.

    Returns:
        The choice, and one record per profile; its success is that of the first attack.
    """
    base = make(exact)
    seconds: dict[Profile, float] = {}
    records: dict[Profile, TuningRecord] = {}

    def note(profile: Profile, **what: object) -> None:
        records[profile] = records[profile].model_copy(update=what)

    for profile in [exact, *(p for p in candidates(base.attacked.module, trial.batch.images.device.type) if p != exact)]:
        records[profile] = TuningRecord(profile=profile.name, seconds_per_step=None, success=None, verdict="slower")
        try:
            seconds[profile] = trial.step_seconds(make(profile))
            note(profile, seconds_per_step=round(seconds[profile], 4))
        except Exception as error:  # any backend may fail in its own way; the others are still there
            # The verdict is published; what a backend says may name files.
            note(profile, verdict=f"failed: {type(error).__name__}")
            tell(f"profile {profile.name} is left out: {first_line(error)}")
    chosen = exact
    reference = trial.strength(base)
    for profile in sorted(seconds, key=lambda p: seconds[p]):
        found = reference if profile == exact else trial.strength(make(profile))
        note(profile, success=found[0][0])
        if all(s >= s0 - STRENGTH and score <= score0 + STRENGTH for (s, score), (s0, score0) in zip(found, reference, strict=True)):
            chosen = profile
            break
        note(profile, verdict="weaker")
        tell(f"profile {profile.name} is left out: its attacks are weaker by more than a point")
    note(chosen, verdict="chosen")
    note(exact, success=reference[0][0])
    return chosen, list(records.values())
