"""What of the checklist of Carlini et al. does a corpus answer? Each point by a figure of this corpus, or as not done.

On Evaluating Adversarial Robustness (2019, arXiv:1902.06705), section 4, in its order and in our words. The checklist is for whoever
claims that a defence holds; a corpus claims no such thing, so that `not done` is no reproach, but what a reader may not take for done.
Nothing here says that an attack is sound: the figure is what there is to judge by.
"""

from collections.abc import Callable

from medadv.report import answers
from medadv.report.answers import Facts
from medadv.report.record import Answer


def checklist(facts: Facts) -> list[Answer]:
    """Every point, in the paper's order."""
    return [Answer(part=part, point=point, done=done, found=found) for part, point, rule in POINTS for done, found in (rule(facts),)]


SEVERE, PITFALL, SPECIAL = "severe flaws", "pitfalls", "special cases"
POINTS: tuple[tuple[str, str, Callable[[Facts], answers.Found]], ...] = (
    (SEVERE, "The threat model is stated: goals, knowledge, capabilities, bound", answers.threat),
    (SEVERE, "Attacks are adaptive: the whole model, end to end", answers.adaptive),
    (SEVERE, "Models and code can be had", answers.released),
    (SEVERE, "The clean metric is reported", answers.clean),
    (SEVERE, "Many steps do better than one", answers.single_step),
    (SEVERE, "There are enough random restarts", answers.restarts),
    (SEVERE, "More epsilon, more success", answers.epsilon_rises),
    (SEVERE, "With a huge epsilon nothing is left of the model", answers.huge),
    (SEVERE, "Success over epsilon, until all samples fall", answers.curve),
    (SEVERE, "Adaptive attacks do better than any other", answers.beats_black_box),
    (SEVERE, "Attacks are described with all their settings", answers.described),
    (PITFALL, "Attacks are diverse", answers.diverse),
    (PITFALL, "A gradient-free attack", answers.gradient_free),
    (PITFALL, "An attack on hard labels", answers.nothing("medadv has no attack that sees the decision alone")),
    (PITFALL, "Transfer from a similar model", answers.transfer),
    (PITFALL, "Randomness of the model is accounted for", answers.random),
    (PITFALL, "What is not differentiable is accounted for", answers.differentiable),
    (PITFALL, "Attacks have converged: twice the steps do no better", answers.converged),
    (PITFALL, "Settings of the attacks were investigated", answers.hyperparameters),
    (PITFALL, "Compared with prior work", answers.nothing("a corpus holds one victim, and no other's figures")),
    (PITFALL, "Broader threat models: rotation, common corruptions", answers.nothing("perturbations of a bounded size alone")),
    (SPECIAL, "Provable approaches", answers.nothing("nothing is proved: the figures are of attacks that were made")),
    (SPECIAL, "Random noise of the same size", answers.noise),
    (SPECIAL, "Targeted and untargeted attacks", answers.targeted),
    (SPECIAL, "Ablation of what a defence is made of", answers.nothing("the victim is attacked as it is")),
    (SPECIAL, "New attacks are validated", answers.new_attacks),
    (SPECIAL, "Domains other than images", answers.images),
    (SPECIAL, "Success for each sample, over all attacks", answers.each_sample),
)
"""Part of the checklist, the point, and what answers it."""
