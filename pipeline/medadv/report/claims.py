"""What may be concluded, in which terms, and what not? Sentences that follow from a corpus's own figures."""

from collections.abc import Iterator

from medadv.corpus.manifest import Manifest
from medadv.datasets.source import counted
from medadv.report.record import Noise, Population, Result, Term
from medadv.scoring.intervals import LEVEL

DRAFT = "ISO/IEC DIS 24029-3, draft of 8 December 2025"
FEW_GROUPS = 30
"""Groups below which an interval by the percentiles of a bootstrap is itself unsure."""


def terms(manifest: Manifest, population: Population, results: list[Result], unit: str) -> list[Term]:
    """The draft's headings, and what each is here."""
    epsilons = sorted({settings.epsilon for settings in manifest.attacks.values()})
    told = ", ".join(f"{epsilon:g}" for epsilon in epsilons)
    first = results[0]
    clean = "not defined" if first.clean.value is None else f"{first.metric} {first.clean.value:.3f}"
    checked = manifest.sanity is not None and bool(manifest.sanity.epsilon_ladder)
    here = {
        "Robustness dimension": f"L-infinity size of a perturbation of the stored image, up to {told} {unit}",
        "Datasets needed for robustness assessment": (
            f"{population.samples} clean images of {population.groups} groups, each perturbed by {len(manifest.attacks)} attacks"
        ),
        "In-domain robustness assessment": f"the clean images, as they were collected: {clean}",
        "Specification of expected behaviour": "the rule of success, stored beside every attack: what counts as an answer that was lost",
        "Robustness assessment based on performance drops": "clean less adversarial metric of the same samples, whole and in parts, above",
        "Targeted assessment of the system's response to a perturbation": (
            "success over a ladder of epsilons and of steps, on some samples" if checked else "not done: no ladder was climbed"
        ),
        "Measuring adversarial robustness": "success and drops under these attacks: an upper bound of what the model withstands",
        "Assessment through separability metrics": "not done",
        "Assessment through statistical reliability engineering": "not done",
        "Robustness assessment through curvature analysis": "not done",
    }
    return [Term(term=term, here=text) for term, text in here.items()]


def limits(manifest: Manifest, population: Population, results: list[Result], noise: Noise | None) -> Iterator[str]:
    """What the figures leave open, by what this corpus is."""
    if manifest.run.status != "complete":
        yield f"The corpus is partial: {manifest.run.shards_missing} shards are missing, and nothing of their samples is in any figure."
    if population.labels == "prediction":
        yield (
            "The truth is the victim's own clean answer: clean figures are right by definition, and drops say how far answers move, not "
            "how wrong they get."
        )
    if population.groups < 2:
        yield "All samples are of one group: no interval is given, since nothing here says how others would fare."
    elif population.groups < FEW_GROUPS:
        yield f"Only {population.groups} groups: intervals over so few are themselves unsure, mostly too narrow."
    if population.groups == population.samples and population.samples > 1:
        yield "Each sample is its own group: where images of one patient are among them, unsaid, intervals are too narrow."
    yield f"Intervals of {LEVEL:.0%} are percentiles of a bootstrap over groups; of figures at 0 or 1 they have no width and are no proof."
    if population.quarantined:
        yield f"{counted(population.quarantined, 'input')} could not be used, in no figure; see the quarantine."
    if manifest.baseline and manifest.baseline.warning:
        yield f"{manifest.baseline.warning[:1].upper()}{manifest.baseline.warning[1:]}."
    if manifest.sanity is None or not manifest.sanity.samples:
        yield "No sanity checks: nothing here says whether the attacks are as strong as they could be."
    else:
        yield f"Strength was checked on {manifest.sanity.samples} samples with {manifest.sanity.attack} alone."
        yield from manifest.sanity.warnings
    unable = {result.attack: result.attackable for result in results if result.attackable < population.samples}
    if unable:
        told = ", ".join(f"{name} {count}" for name, count in unable.items())
        yield f"Success is counted over samples whose clean answer left something to attack ({told} of {population.samples})."
    if noise is not None and noise.tissue.median is None:
        yield "The scanner's noise could not be told from these images, so that epsilon stands beside no noise."
    yield "One victim, one preprocessing, stored images: nothing was measured on a device, in a viewer or after another export."


def not_to_conclude(manifest: Manifest, results: list[Result], unit: str) -> Iterator[str]:
    """What does not follow, each with the figure that may tempt to conclude it."""
    top = max(settings.epsilon for settings in manifest.attacks.values())
    best = max((r.adversarial.value for r in results if r.metric == results[0].metric and r.adversarial.value is not None), default=None)
    if best is not None:
        yield (
            f"That the model withstands attacks because {results[0].metric} stayed at {best:.3f}: stronger attacks, or others than these, "
            "may lower it."
        )
    yield (
        f"Anything about perturbations larger than {top:g} {unit}, of another shape (rotation, blur, another scanner), or added before "
        "reconstruction or export."
    )
    yield "That a patient was or will be harmed, or that somebody can do this to a device in use: the attacker here has the weights."
    yield "That another model does better or worse: only figures on the same samples under the same attacks can be compared."
    yield "That training on these images makes a model robust: that takes an evaluation of the model so trained, by attacks of its own."
    yield f"Conformity with any standard: {DRAFT} lends its terms, is no standard yet, and may change."
