"""How fast can it run here? What is there for one kind of processor; scoring never takes it. What others need is offered here."""

from medadv.victims.speed.profiles import Profile, candidates, exact_profile, with_profile

__all__ = ["Profile", "candidates", "exact_profile", "with_profile"]
