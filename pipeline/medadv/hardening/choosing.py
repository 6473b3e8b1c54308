"""Which generation is chosen, and what do its figures say? The best robust metric on validation within the allowed clean cost."""

from collections.abc import Mapping, Sequence

from medadv.hardening.measuring import Measurement
from medadv.hardening.record import Choice, Final, FinalAt, GenerationRecord
from medadv.report.estimates import NAMES
from medadv.report.record import Figure


def choose(generations: Sequence[GenerationRecord], clean_cost: float, metric: str) -> Choice:
    """Of generations that were measured.  clean_cost: what clean may fall below the control's.

    Of equally robust ones the earlier is chosen. Where every one costs more than is allowed, the one that costs least.
    """
    metric = NAMES[metric]
    within = [each for each in generations if _change(each) >= -clean_cost]
    if within:
        best = max(within, key=_robust)
        among = f"among those ({len(within)} of {len(generations)}) whose clean {metric} falls at most {clean_cost:g} below the control's"
        why = f"Its {metric} under fresh attacks on validation, {_robust(best):.3f}, is the highest {among}."
        return Choice(generation=best.number, why=why, within_cost=True)
    best = max(generations, key=_change)
    fell = f"this one's falls least, by {-_change(best):.3f}"
    why = f"Every generation's clean {metric} falls more than {clean_cost:g} below the control's; {fell}."
    return Choice(generation=best.number, why=why, within_cost=False)


def _change(generation: GenerationRecord) -> float:
    """Without a figure, as of one class alone, nothing speaks for it."""
    value = generation.clean_change.value
    return -1.0 if value is None else value


def _robust(generation: GenerationRecord) -> float:
    figure = generation.validation.robust
    return -1.0 if figure is None or figure.value is None else figure.value


def is_worse(step: Figure) -> bool:
    """Whether a generation is worse than the one before beyond its interval."""
    return step.high is not None and step.high < 0


def final_of(victim: Measurement, control: Measurement, chosen: Measurement) -> Final:
    """What three models are worth on the same final images."""
    models = {"victim": victim, "control": control, "chosen": chosen}
    return Final(
        samples=chosen.samples,
        groups=chosen.groups,
        left_out=chosen.left_out,
        ignoring_image=chosen.ignoring_image,
        victim=victim.headline.figure,
        control=control.headline.figure,
        chosen=chosen.headline.figure,
        clean_change=chosen.headline.less(control.headline),
        at=[_final_at(models, under.epsilon, under.classes_answered) for under in chosen.robust],
    )


def _final_at(models: Mapping[str, Measurement], epsilon: float, classes_answered: int | None) -> FinalAt:
    estimates = {name: model.under(epsilon) for name, model in models.items()}
    control, chosen = estimates["control"].figure, estimates["chosen"].figure
    return FinalAt(
        epsilon=epsilon,
        victim=estimates["victim"].figure,
        control=control,
        chosen=chosen,
        gain=estimates["chosen"].less(estimates["control"]),
        attacks={name: next(at.attacks for at in model.robust if at.epsilon == epsilon) for name, model in models.items()},
        classes_answered=classes_answered,
        above_control=_above(chosen, control.high),
        above_ignoring=_above(chosen, models["chosen"].ignoring_image),
    )


def _above(figure: Figure, other: float | None) -> bool:
    return figure.low is not None and other is not None and figure.low > other
