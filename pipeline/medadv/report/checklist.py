"""What of the checklist of Carlini et al. does a corpus answer? Each point by a figure of this corpus, or as not done.

On Evaluating Adversarial Robustness (2019, arXiv:1902.06705), section 4, in its order and in our words. The checklist is for whoever claims
that a defence holds; a corpus claims no such thing, so that `not done` is no reproach, but what a reader may not take for done. Nothing here
says that an attack is sound: the figure is what there is to judge by.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np

from medadv.corpus.manifest import Manifest, Rung
from medadv.report.columns import Columns
from medadv.report.record import Answer, Result
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


def checklist(facts: Facts) -> list[Answer]:
    """Every point, in the paper's order."""
    return [Answer(part=part, point=point, done=done, found=found) for part, point, rule in POINTS for done, found in (rule(facts),)]


def families(attacks: list[AttackSettings]) -> list[str]:
    """Ways of searching among these attacks."""
    return sorted({FAMILIES.get(each.attack, STEPS) for each in attacks})


def _threat(facts: Facts) -> Found:
    attacks = facts.manifest.attacks
    each = "; ".join(f"{name}: L-infinity at most {settings.epsilon:g} {facts.unit}" for name, settings in attacks.items())
    goals = sorted({in_words(settings.goal, facts.manifest.data.task) for settings in attacks.values()})
    gradients = [attack for attack in facts.single if attack.attack != "square"]
    knows = "the victim whole, with its weights and input steps" if gradients else "the victim's answers alone"
    return True, f"{each}. The attacker knows {knows}, changes whole {facts.unit} of the stored image, and wants that {' or '.join(goals)}"


def _adaptive(facts: Facts) -> Found:
    if all(attack.attack == "square" for attack in facts.single):
        return False, "every attack sees answers alone; none follows the victim's gradient"
    sanity = facts.manifest.sanity
    zeros = None if sanity is None else sanity.zero_gradients
    told = "not measured" if zeros is None else f"{zeros:.1%}"
    return True, f"gradients through the whole victim, input steps included; exactly 0 at {told} of the voxels. A defence around it is not known here"


def _released(facts: Facts) -> Found:
    victim, tool = facts.manifest.victim, facts.manifest.tool
    if victim.weights_sha256 is None:
        return False, "the weights are not even named by a hash"
    return True, (
        f"weights named by SHA-256 {victim.weights_sha256[:16]} (whether they are published is not known here), clean and adversarial images in the "
        f"corpus, {tool.name or 'medadv'} {tool.version or ''}; one sample again: `medadv reproduce`"
    )


def _clean(facts: Facts) -> Found:
    first = facts.results[0]
    if first.clean.value is None:
        return False, "not defined on these samples"
    if facts.manifest.data.label == "prediction":
        return False, f"{first.metric} is {first.clean.value:.3f} by definition: the victim's own clean answer was taken as the truth"
    beside = "" if first.ignoring_image is None else f"; an answer that ignores the image gets {first.ignoring_image:.3f}"
    return True, f"{first.metric} {first.clean.value:.3f}{beside}"


def _single_step(facts: Facts) -> Found:
    ladder = facts.steps
    if len(ladder) < 2 or ladder[0].steps != 1:
        return False, "the ladder of steps does not begin with one" if ladder else _unchecked(facts)
    return True, f"success {ladder[0].success:.0%} after 1 step, {ladder[-1].success:.0%} after {ladder[-1].steps}"


def _restarts(facts: Facts) -> Found:
    most = max(attack.restarts for attack in facts.single)
    random = sum(attack.random_start for attack in facts.single)
    told = f"{random} of {len(facts.single)} attacks start at random, from {most} {'start' if most == 1 else 'starts'} at most"
    return most > 1, told if most > 1 else f"{told}; more were not tried"


def _epsilon_rises(facts: Facts) -> Found:
    return (True, _ladder(facts)) if facts.epsilons else (False, _unchecked(facts))


def _huge(facts: Facts) -> Found:
    sanity = facts.manifest.sanity
    if sanity is None or sanity.huge_epsilon is None:
        return False, _unchecked(facts)
    return True, f"success {sanity.huge_epsilon.success:.0%} at {sanity.huge_epsilon.epsilon:g} {facts.unit}"


def _curve(facts: Facts) -> Found:
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


def _beats_black_box(facts: Facts) -> Found:
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


def _described(facts: Facts) -> Found:
    count = len(facts.manifest.attacks)
    return True, f"{count} {'attack' if count == 1 else 'attacks'}, every setting in the manifest; seed {facts.manifest.execution.seed}"


def _diverse(facts: Facts) -> Found:
    found = families(facts.single)
    return len(found) > 1, f"{len(found)} {'way' if len(found) == 1 else 'ways'} of searching: {', '.join(found)}"


def _gradient_free(facts: Facts) -> Found:
    names = facts.named("square")
    if not names:
        inside = sum(attack.attack == "square" for attack in facts.single)
        return bool(inside), f"as a member of {inside} ensembles" if inside else "no attack of this corpus does without gradients"
    rates = {r.attack: r.success.value for r in _first_metrics(facts)}
    told = ", ".join(f"{name} {'n/a' if rates[name] is None else f'{rates[name]:.0%}'}" for name in facts.manifest.attacks)
    return True, f"success {told}"


def _hard_label(facts: Facts) -> Found:
    return False, "medadv has no attack that sees the decision alone"


def _transfer(facts: Facts) -> Found:
    sanity = facts.manifest.sanity
    if sanity is None or sanity.transfer is None:
        return False, "no second model was given"
    return True, f"success {sanity.transfer.success:.0%} on the second model, {sanity.transfer.white_box:.0%} on the victim"


def _random(facts: Facts) -> Found:
    repeats = facts.manifest.determinism.repeated
    if not repeats:
        return False, "no batch was attacked twice"
    same = sum(repeat.equal for repeat in repeats)
    return True, f"{same} of {len(repeats)} batches that were attacked twice came out equal, bit for bit; the victim is run without its dropout"


def _differentiable(facts: Facts) -> Found:
    sanity = facts.manifest.sanity
    if sanity is None or sanity.zero_gradients is None:
        return False, _unchecked(facts)
    clamped = "" if sanity.clamped is None else f", {sanity.clamped:.1%} of its probabilities exactly 0 or 1"
    return True, f"gradients are exactly 0 at {sanity.zero_gradients:.1%} of the voxels{clamped}; nothing is approximated"


def _converged(facts: Facts) -> Found:
    climbed = facts.climbed
    own = next((rung for rung in facts.steps if climbed and rung.steps == climbed.steps), None)
    if own is None or own is facts.steps[-1]:
        return False, "nothing was run for longer than the attack itself" if facts.steps else _unchecked(facts)
    return True, f"success {own.success:.0%} after {own.steps} steps, {facts.steps[-1].success:.0%} after {facts.steps[-1].steps}"


def _hyperparameters(facts: Facts) -> Found:
    rungs = len(facts.epsilons), len(facts.steps)
    if not any(rungs):
        return False, _unchecked(facts)
    return True, f"{rungs[0]} epsilons and {rungs[1]} numbers of steps were tried; the length of a step and the loss were not varied"


def _nothing(why: str) -> Callable[[Facts], Found]:
    return lambda facts: (False, why)


def _noise(facts: Facts) -> Found:
    sanity = facts.manifest.sanity
    if sanity is None or sanity.noise is None:
        return False, _unchecked(facts)
    return True, f"success {sanity.noise.success:.0%}, the attack {sanity.noise.white_box:.0%}; one draw a sample, where the paper asks for 10,000"


def _targeted(facts: Facts) -> Found:
    aimed = [name for name, settings in facts.manifest.attacks.items() if settings.goal != "untruth"]
    free = [name for name in facts.manifest.attacks if name not in aimed]
    told = f"towards a goal: {', '.join(aimed) or 'none'}; away from the truth: {', '.join(free) or 'none'}"
    return bool(aimed and free), told


def _new_attacks(facts: Facts) -> Found:
    kinds = sorted({attack.attack for attack in facts.single})
    return True, f"none is new: {', '.join(kinds)} follow works cited below"


def _images(facts: Facts) -> Found:
    return True, f"these are images ({facts.manifest.data.modality}), and say nothing of anything else"


def _each_sample(facts: Facts) -> Found:
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


SEVERE, PITFALL, SPECIAL = "severe flaws", "pitfalls", "special cases"
POINTS: tuple[tuple[str, str, Callable[[Facts], Found]], ...] = (
    (SEVERE, "The threat model is stated: goals, knowledge, capabilities, bound", _threat),
    (SEVERE, "Attacks are adaptive: the whole model, end to end", _adaptive),
    (SEVERE, "Models and code can be had", _released),
    (SEVERE, "The clean metric is reported", _clean),
    (SEVERE, "Many steps do better than one", _single_step),
    (SEVERE, "There are enough random restarts", _restarts),
    (SEVERE, "More epsilon, more success", _epsilon_rises),
    (SEVERE, "With a huge epsilon nothing is left of the model", _huge),
    (SEVERE, "Success over epsilon, until all samples fall", _curve),
    (SEVERE, "Adaptive attacks do better than any other", _beats_black_box),
    (SEVERE, "Attacks are described with all their settings", _described),
    (PITFALL, "Attacks are diverse", _diverse),
    (PITFALL, "A gradient-free attack", _gradient_free),
    (PITFALL, "An attack on hard labels", _hard_label),
    (PITFALL, "Transfer from a similar model", _transfer),
    (PITFALL, "Randomness of the model is accounted for", _random),
    (PITFALL, "What is not differentiable is accounted for", _differentiable),
    (PITFALL, "Attacks have converged: twice the steps do no better", _converged),
    (PITFALL, "Settings of the attacks were investigated", _hyperparameters),
    (PITFALL, "Compared with prior work", _nothing("a corpus holds one victim, and no other's figures")),
    (PITFALL, "Broader threat models: rotation, common corruptions", _nothing("perturbations of a bounded size alone")),
    (SPECIAL, "Provable approaches", _nothing("nothing is proved: the figures are of attacks that were made")),
    (SPECIAL, "Random noise of the same size", _noise),
    (SPECIAL, "Targeted and untargeted attacks", _targeted),
    (SPECIAL, "Ablation of what a defence is made of", _nothing("the victim is attacked as it is")),
    (SPECIAL, "New attacks are validated", _new_attacks),
    (SPECIAL, "Domains other than images", _images),
    (SPECIAL, "Success for each sample, over all attacks", _each_sample),
)
"""Part of the checklist, the point, and what answers it."""
