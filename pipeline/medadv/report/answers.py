"""What answers a point of the checklist? A figure of the corpus, or why there is none."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np

from medadv.corpus.manifest import Manifest, Rung
from medadv.report.columns import Columns
from medadv.report.record import Result
from medadv.spec.attack import AttackSettings
from medadv.spec.goal import in_words

FAMILIES = {"apgd": "adaptive steps", "square": "queries alone", "sea": "adaptive steps", "universal": "one perturbation for all"}
"""Attacks that search in another way than by steps along the sign of a gradient."""
STEPS = "steps along the sign"
Found = tuple[bool, str]


@dataclass(frozen=True, eq=False)
class Facts:
    """What points are answered from.  unit: of epsilons, in words."""

    manifest: Manifest
    columns: Columns
    results: list[Result]
    unit: str

    @property
    def single(self) -> list[AttackSettings]:
        """Every attack that was let loose, members of ensembles one by one."""
        return [each for settings in self.manifest.attacks.values() for each in settings.each]

    @property
    def epsilons(self) -> list[Rung]:
        """The ladder of epsilons that the checks climbed, empty where they did not."""
        return (self.manifest.sanity.epsilon_ladder if self.manifest.sanity else None) or []

    @property
    def steps(self) -> list[Rung]:
        """The same of steps."""
        return (self.manifest.sanity.steps_ladder if self.manifest.sanity else None) or []

    @property
    def climbed(self) -> AttackSettings | None:
        """The attack that the checks climbed with: of an ensemble its first member."""
        name = (self.manifest.sanity.attack if self.manifest.sanity else None) or ""
        settings = self.manifest.attacks.get(name) or self.manifest.attacks.get(name.partition(": ")[0])
        return settings.each[0] if settings else None

    def named(self, kind: str) -> list[str]:
        """Attacks of the corpus that are of this kind."""
        return [name for name, settings in self.manifest.attacks.items() if settings.attack == kind]


def families(attacks: list[AttackSettings]) -> list[str]:
    """Ways of searching among these attacks."""
    return sorted({FAMILIES.get(each.attack, STEPS) for each in attacks})


def threat(facts: Facts) -> Found:
    """Bound, goal and what the attacker knows."""
    attacks = facts.manifest.attacks
    each = "; ".join(f"{name}: L-infinity at most {settings.epsilon:g} {facts.unit}" for name, settings in attacks.items())
    goals = sorted({in_words(settings.goal, facts.manifest.data.task) for settings in attacks.values()})
    gradients = [attack for attack in facts.single if attack.attack != "square"]
    knows = "the victim whole, with its weights and input steps" if gradients else "the victim's answers alone"
    return True, f"{each}. The attacker knows {knows}, changes whole {facts.unit} of the stored image, and wants that {' or '.join(goals)}"


def adaptive(facts: Facts) -> Found:
    """Whether gradients go through all of the victim."""
    if all(attack.attack == "square" for attack in facts.single):
        return False, "every attack sees answers alone; none follows the victim's gradient"
    sanity = facts.manifest.sanity
    zeros = None if sanity is None else sanity.zero_gradients
    told = "not measured" if zeros is None else f"{zeros:.1%}"
    return True, (
        f"gradients through the whole victim, input steps included; share of voxels where they are exactly 0: {told}. A defence around the "
        "victim is not known here"
    )


def released(facts: Facts) -> Found:
    """What of model and code can be had."""
    victim, tool = facts.manifest.victim, facts.manifest.tool
    if victim.weights_sha256 is None:
        return False, "the weights are not even named by a hash"
    return True, (
        f"weights named by SHA-256 {victim.weights_sha256[:16]} (whether they are published is not known here), images clean and "
        f"adversarial, {tool.name or 'medadv'} {tool.version or ''}; medadv reproduce makes a sample again"
    )


def clean(facts: Facts) -> Found:
    """The clean metric, beside an answer that ignores the image."""
    first = facts.results[0]
    if first.clean.value is None:
        return False, "not defined on these samples"
    if facts.manifest.data.label == "prediction":
        return False, f"{first.metric} is {first.clean.value:.3f} by definition: the victim's own clean answer was taken as the truth"
    beside = "" if first.ignoring_image is None else f"; an answer that ignores the image gets {first.ignoring_image:.3f}"
    return True, f"{first.metric} {first.clean.value:.3f}{beside}"


def single_step(facts: Facts) -> Found:
    """Success after one step and after many."""
    ladder = facts.steps
    if len(ladder) < 2 or ladder[0].steps != 1:
        return False, "the ladder of steps does not begin with one" if ladder else _unchecked(facts)
    return True, f"success {ladder[0].success:.0%} after 1 step, {ladder[-1].success:.0%} after {ladder[-1].steps}"


def restarts(facts: Facts) -> Found:
    """Random starts."""
    most = max(attack.restarts for attack in facts.single)
    random = sum(attack.random_start for attack in facts.single)
    told = f"{random} of {len(facts.single)} attacks start at random, from {most} {'start' if most == 1 else 'starts'} at most"
    return most > 1, told if most > 1 else f"{told}; more were not tried"


def epsilon_rises(facts: Facts) -> Found:
    """Success over epsilons."""
    return (True, _ladder(facts)) if facts.epsilons else (False, _unchecked(facts))


def huge(facts: Facts) -> Found:
    """Success where little of the image is left."""
    sanity = facts.manifest.sanity
    if sanity is None or sanity.huge_epsilon is None:
        return False, _unchecked(facts)
    return True, f"success {sanity.huge_epsilon.success:.0%} at {sanity.huge_epsilon.epsilon:g} {facts.unit}"


def curve(facts: Facts) -> Found:
    """Success over epsilons, and whether all samples fall in the end."""
    sanity, rungs = facts.manifest.sanity, facts.epsilons
    epsilons = {settings.epsilon for settings in facts.manifest.attacks.values()}
    if not rungs and len(epsilons) < 2:
        return False, _unchecked(facts)
    if not rungs:
        told = ", ".join(f"{r.attack}: {r.success.value:.0%}" for r in _first_metrics(facts) if r.success.value is not None)
        return True, f"of the attacks at {len(epsilons)} epsilons: {told}"
    top = max([rung.success for rung in rungs] + ([sanity.huge_epsilon.success] if sanity and sanity.huge_epsilon else []))
    return True, f"{_ladder(facts)}; {'all' if top == 1 else 'not all'} of the samples in the end"


def _ladder(facts: Facts) -> str:
    sanity = facts.manifest.sanity
    told = ", ".join(f"{rung.success:.0%} at {rung.epsilon:g}" for rung in facts.epsilons)
    return f"success {told} {facts.unit}, on {sanity.samples if sanity else 0} samples"


def beats_black_box(facts: Facts) -> Found:
    """Sample by sample where a black-box attack stands in the corpus, else by noise and transfer of the checks."""
    black = facts.named("square")
    white = [name for name in facts.manifest.attacks if name not in black and not facts.manifest.attacks[name].members]
    if black and white:
        attacks = facts.columns.attacks
        fooled = [np.any([attacks[name].success == 1 for name in names], axis=0) for names in (black, white)]
        alone = int((fooled[0] & ~fooled[1]).sum())
        return True, f"{alone} of {len(fooled[0])} samples fall to answers alone ({', '.join(black)}) and to no attack by gradients"
    sanity = facts.manifest.sanity
    if sanity is None:
        return False, _unchecked(facts)
    told = [
        f"{what} {found.success:.0%}, the attack {found.white_box:.0%}"
        for what, found in (("noise", sanity.noise), ("transfer", sanity.transfer))
        if found is not None
    ]
    if not told:
        return False, _unchecked(facts)
    return True, f"{'; '.join(told)}, as shares and not sample by sample"


def described(facts: Facts) -> Found:
    """Where the settings are."""
    count = len(facts.manifest.attacks)
    return True, f"{count} {'attack' if count == 1 else 'attacks'}, every setting in the manifest; seed {facts.manifest.execution.seed}"


def diverse(facts: Facts) -> Found:
    """Ways of searching."""
    found = families(facts.single)
    return len(found) > 1, f"{len(found)} {'way' if len(found) == 1 else 'ways'} of searching: {', '.join(found)}"


def gradient_free(facts: Facts) -> Found:
    """Success of attacks by queries."""
    names = facts.named("square")
    if not names:
        inside = sum(attack.attack == "square" for attack in facts.single)
        return bool(inside), f"as a member of {inside} ensembles" if inside else "no attack of this corpus does without gradients"
    rates = {r.attack: r.success.value for r in _first_metrics(facts)}
    told = ", ".join(f"{name} {'n/a' if rates[name] is None else f'{rates[name]:.0%}'}" for name in facts.manifest.attacks)
    return True, f"success {told}"


def transfer(facts: Facts) -> Found:
    """Success on a second model."""
    sanity = facts.manifest.sanity
    if sanity is None or sanity.transfer is None:
        return False, "no second model was given"
    return True, f"success {sanity.transfer.success:.0%} on the second model, {sanity.transfer.white_box:.0%} on the victim"


def random(facts: Facts) -> Found:
    """Whether repeated batches came out equal."""
    repeats = facts.manifest.determinism.repeated
    if not repeats:
        return False, "no batch was attacked twice"
    same = sum(repeat.equal for repeat in repeats)
    return True, f"{same} of {len(repeats)} batches that were attacked twice came out equal, bit for bit; dropout is off in the victim"


def differentiable(facts: Facts) -> Found:
    """Where no gradient passes."""
    sanity = facts.manifest.sanity
    if sanity is None or sanity.zero_gradients is None:
        return False, _unchecked(facts)
    clamped = "" if sanity.clamped is None else f", {sanity.clamped:.1%} of its probabilities exactly 0 or 1"
    return True, f"gradients are exactly 0 at {sanity.zero_gradients:.1%} of the voxels{clamped}; nothing is approximated"


def converged(facts: Facts) -> Found:
    """Success after the attack's own steps and after more."""
    climbed = facts.climbed
    own = next((rung for rung in facts.steps if climbed and rung.steps == climbed.steps), None)
    if own is None or own is facts.steps[-1]:
        return False, "nothing was run for longer than the attack itself" if facts.steps else _unchecked(facts)
    return True, f"success {own.success:.0%} after {own.steps} steps, {facts.steps[-1].success:.0%} after {facts.steps[-1].steps}"


def hyperparameters(facts: Facts) -> Found:
    """What was varied."""
    rungs = len(facts.epsilons), len(facts.steps)
    if not any(rungs):
        return False, _unchecked(facts)
    return True, f"{rungs[0]} epsilons and {rungs[1]} numbers of steps were tried; the length of a step and the loss were not varied"


def nothing(why: str) -> Callable[[Facts], Found]:
    """A point that no corpus answers.  why: what to say instead."""
    return lambda facts: (False, why)


def noise(facts: Facts) -> Found:
    """Success of noise."""
    sanity = facts.manifest.sanity
    if sanity is None or sanity.noise is None:
        return False, _unchecked(facts)
    told = f"success {sanity.noise.success:.0%}, the attack {sanity.noise.white_box:.0%}"
    return True, f"{told}; one draw a sample, where the paper asks for 10,000"


def targeted(facts: Facts) -> Found:
    """Which attacks have a goal."""
    aimed = [name for name, settings in facts.manifest.attacks.items() if settings.goal != "untruth"]
    free = [name for name in facts.manifest.attacks if name not in aimed]
    told = f"towards a goal: {', '.join(aimed) or 'none'}; away from the truth: {', '.join(free) or 'none'}"
    return bool(aimed and free), told


def new_attacks(facts: Facts) -> Found:
    """Which works the attacks follow."""
    kinds = sorted({attack.attack for attack in facts.single})
    return True, f"none is new: {', '.join(kinds)} follow works cited below"


def images(facts: Facts) -> Found:
    """What kind of data it is."""
    return True, f"these are images ({facts.manifest.data.modality}), and say nothing of anything else"


def each_sample(facts: Facts) -> Found:
    """Samples that fall to any attack."""
    attacks = facts.columns.attacks.values()
    able = np.any([attack.attackable for attack in attacks], axis=0)
    if not able.any():
        return False, "no sample could be attacked"
    fallen = np.any([(attack.success == 1) & attack.attackable for attack in attacks], axis=0)
    return True, f"{int(fallen.sum())} of {int(able.sum())} samples ({fallen.sum() / able.sum():.0%}) fall to at least one of the attacks"


def _unchecked(facts: Facts) -> str:
    sanity = facts.manifest.sanity
    if sanity is None:
        return "no sanity checks were made (sanity_samples: 0)"
    return sanity.warnings[0] if not sanity.samples and sanity.warnings else "the checks did not measure it"


def _first_metrics(facts: Facts) -> Iterator[Result]:
    seen: set[str] = set()
    for result in facts.results:
        if result.attack not in seen:
            seen.add(result.attack)
            yield result
