"""What is a generation? A corpus against the model of the moment, training on it beside the control, and fresh attacks on validation."""

from collections.abc import Mapping
from typing import TypedDict

from medadv.attacks.cost import passes
from medadv.common.hashing import hash_file
from medadv.hardening.arms import Arms
from medadv.hardening.cards import write_card
from medadv.hardening.choosing import is_worse
from medadv.hardening.folder import CARD, WEIGHTS
from medadv.hardening.fresh import control_validated, drop_older, moment, validated
from medadv.hardening.measuring import Measurement
from medadv.hardening.record import Compared, Cost, GenerationRecord, Hardening, Passes
from medadv.hardening.same import note_images, refuse_other_images
from medadv.hardening.specs import alike_before, begins_warm, beside, training_spec, validation_spec
from medadv.hardening.splits import refuse_empty_splits
from medadv.hardening.trial import refuse_untrainable
from medadv.hardening.work import Made, Work
from medadv.report.record import Figure
from medadv.spec.attack import AttackSettings


def add_generation(work: Work, arms: Arms, record: Hardening | None) -> Hardening:
    """The next generation, and the record with it."""
    number = 1 if record is None else len(record.generations) + 1
    spec, settings = work.spec, work.settings
    alike = alike_before(spec, number)
    before = beside(work.home.corpus(alike), work.base) if begins_warm(spec) and alike > 0 else None
    corpus = training_spec(spec, number, moment(work, number - 1), before)
    if record is not None:
        note_images(work, number - 1)
    elif not work.home.corpus(number).exists():
        refuse_empty_splits(work)
        if not settings.foreign:
            refuse_untrainable(work)
    newest = work.corpus(work.home.corpus(number), corpus)
    refuse_other_images(work, "training", newest.folder)
    earlier = validated(work, number - 1, newest)
    if record is None:
        record = _begun(work, newest, earlier)
    losses = {arm: arms.trained(arm, number, newest) for arm in ("hardened", "control")}
    after, undefended = validated(work, number, newest), control_validated(work, number, newest)
    figures = figures_of(after, undefended, earlier)
    generation = GenerationRecord(
        number=number,
        epsilons={name: attack.epsilon for name, attack in corpus.attacks.items()},
        content_root=newest.manifest.content_root,
        samples=newest.manifest.samples,
        warm={name: start.warm for name, start in newest.manifest.starts.items()},
        attacked_weights_sha256=newest.manifest.victim.weights_sha256,
        weights_sha256=after.weights_sha256,
        losses=losses["hardened"],
        control_losses=losses["control"],
        **figures,
        cost=_cost(work, newest, corpus.attacks, after),
    )
    for arm, compared in (("hardened", figures["validation"]), ("control", figures["control"])):
        folder = work.home.generation(number, arm)  # type: ignore[arg-type]
        name, epochs = f"{spec.name}-{arm}-{number:03d}", number * settings.epochs
        write_card(folder / CARD, name, spec, newest, compared, after.metric, hash_file(folder / WEIGHTS), epochs)
    drop_older(work, number)
    work.log("generation", number=number, clean=after.headline.value, robust=after.under().value)
    return record.model_copy(update={"generations": [*record.generations, generation]})


class Figures(TypedDict):
    """What validation says of a generation, as its record has it."""

    validation: Compared
    control: Compared
    clean_change: Figure
    step: Figure
    worse: bool


def figures_of(after: Measurement, undefended: Measurement, earlier: Measurement) -> Figures:
    """after: the generation.  undefended: the control after as many epochs.  earlier: the generation before."""
    step = after.under().less(earlier.under())
    return {
        "validation": compared_of(after),
        "control": compared_of(undefended),
        "clean_change": after.headline.less(undefended.headline),
        "step": step,
        "worse": is_worse(step),
    }


def compared_of(found: Measurement) -> Compared:
    """The headline metric of a model, with its intervals."""
    return Compared(clean=found.headline.figure, robust=found.under().figure if found.robust else None)


def _begun(work: Work, newest: Made, victim: Measurement) -> Hardening:
    manifest = newest.manifest
    return Hardening(
        name=work.spec.name,
        task=work.spec.data.task,
        unit=manifest.data.unit,
        network=manifest.victim.network,
        victim_weights_sha256=manifest.victim.weights_sha256,
        parameters=manifest.victim.parameters,
        settings=work.settings,
        attacks=work.spec.attacks,
        metric=victim.metric,
        training_samples=manifest.samples,
        validation_samples=victim.samples,
        validation_groups=victim.groups,
        ignoring_image=victim.ignoring_image,
        victim=compared_of(victim),
        generations=[],
        control=None,
        choice=None,
        final=None,
        notes=work.notes,
    )


def _cost(work: Work, newest: Made, attacks: Mapping[str, AttackSettings], after: Measurement) -> Cost:
    settings, count = work.settings, newest.manifest.samples
    # An epoch leaves out what fills no batch.
    trained = settings.epochs * (count // settings.batch_size * settings.batch_size if count >= settings.batch_size else count)
    both = trained * (2 if settings.loss == "trades" else 1)
    if settings.foreign:
        both = trained = 0
    fresh = validation_spec(work.spec, 0, None).attacks
    return Cost(
        attacks=passes_of(attacks, count),
        training=Passes(forward=both, backward=both),
        control=Passes(forward=trained, backward=trained),
        measuring=passes_of(fresh, after.samples + after.left_out),
    )


def passes_of(attacks: Mapping[str, AttackSettings], samples: int) -> Passes:
    """What attacks on so many samples cost."""
    each = [passes(attack) for attack in attacks.values()]
    return Passes(forward=samples * sum(there for there, _ in each), backward=samples * sum(back for _, back in each))
