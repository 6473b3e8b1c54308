"""What may be asked of an ensemble, and what of an ensemble alone?"""

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from medadv.spec.attack import AttackSettings

OF_ENSEMBLES = {
    "ties": ("first", "only an ensemble holds answers against each other"),
    "rank": ("score", "only an ensemble holds answers against each other"),
    "starts": ("shared", "only an ensemble has members that start"),
}
"""What every other attack has as it is, and why."""


def misfit_of_members(settings: "AttackSettings") -> str | None:
    """Why an attack's members, or what only members have, cannot be; None where all is well."""
    members = settings.members
    if (settings.attack == "ensemble") != (members is not None):
        return "members are the attacks of an ensemble, and attack: ensemble has them; give both or neither"
    for name, (usual, why) in OF_ENSEMBLES.items():
        if members is None and getattr(settings, name) != usual:
            return f"{name}={getattr(settings, name)}: {why}; leave {name} out"
    if members and any(each.goal != "untruth" for each in (settings, *members)):
        return "goal: an ensemble keeps the answer that is worst by the truth; give a goal to an attack by itself"
    if settings.combine and (members or settings.fit):
        kind = "an ensemble keeps what is worst for one victim" if members else "a universal perturbation is fitted to one victim"
        return f"combine: losses: {kind}; say victim: NAME instead"
    found = (_misfit(number, member, settings.epsilon) for number, member in enumerate(members or ()))
    return next((why for why in found if why is not None), None)


def _misfit(number: int, member: "AttackSettings", epsilon: float) -> str | None:
    if member.victim or member.combine:
        return f"members[{number}]: an ensemble says itself which victim it attacks; leave victim and combine out"
    if member.epsilon != epsilon:
        return f"members[{number}]: epsilon={member.epsilon:g} is not the ensemble's {epsilon:g}; leave it out"
    if member.fit:
        return f"members[{number}]: a universal perturbation is fitted while planning, and is no member of an ensemble"
    if member.members or member.start:
        return f"members[{number}]: an ensemble's members have no members, and its start is theirs"
    return None
