"""What can an attack raise against this victim? Losses and classes that it does not have are replaced where that is plain, else refused.

What is taken instead stands in the plan and in the manifest; the run spec stays as it was written.
"""

from collections.abc import Iterator, Mapping

from medadv.common.errors import SpecError
from medadv.spec.attack import AttackSettings
from medadv.victims.tasks.classification import Classifier
from medadv.victims.tasks.margins import NEEDED, NEEDED_TARGETED, has_ratio
from medadv.victims.tasks.segmentation import Segmenter
from medadv.victims.victim import TaskModel


def fitted(attacks: Mapping[str, AttackSettings], judge: TaskModel) -> tuple[dict[str, AttackSettings], list[str]]:
    """Attacks, members of ensembles too, with losses and classes that a victim has, and what was replaced, a line each.

    Raises SpecError: masks and boxes have none such.
    """
    notes: dict[str, None] = {}
    found: dict[str, AttackSettings] = {}
    for name, settings in attacks.items():
        changes = [_changes(f"attacks.{name}", each, judge) for each in settings.each]
        notes.update((text, None) for _, texts in changes for text in texts)
        parts = tuple(each.model_copy(update=change) for each, (change, _) in zip(settings.each, changes, strict=True))
        found[name] = settings.model_copy(update={"members": parts}) if settings.members else parts[0]
    return found, list(notes)


def _changes(key: str, attack: AttackSettings, judge: TaskModel) -> tuple[dict[str, str | int], list[str]]:
    if isinstance(judge, Classifier):
        return _of_classes(key, attack, judge)
    for text in _refusals(attack, isinstance(judge, Segmenter)):
        raise SpecError(f"{key}.{text}")
    return {}, []


def _of_classes(key: str, attack: AttackSettings, judge: Classifier) -> tuple[dict[str, str | int], list[str]]:
    changes: dict[str, str | int] = {}
    notes = []
    wanted = attack.target_classes
    softmax = judge.head == "softmax"
    most = judge.classes - 1 if softmax else 0
    if wanted > most:
        why = f"of the victim's {judge.classes} classes one is right" if softmax else "labels that are answered one by one exclude none"
        notes.append(f"{key}.target_classes={wanted}: {most} is taken, since {why}")
        changes["target_classes"] = most
        if attack.restarts == wanted:
            changes["restarts"] = max(1, most)
    if attack.loss == "dlr" and not has_ratio(judge.classes, judge.head, min(wanted, most) > 0):
        fewest = NEEDED_TARGETED if min(wanted, most) else NEEDED
        notes.append(f"{key}.loss=dlr: margin is taken, since the ratio needs a softmax over {fewest} classes")
        changes["loss"] = "margin"
    return changes, notes


def _refusals(attack: AttackSettings, masks: bool) -> Iterator[str]:
    if attack.target_classes:
        yield f"target_classes={attack.target_classes}: only classifiers have classes of an image to drive towards: leave it out"
    if masks and attack.loss == "dlr":
        yield "loss=dlr: masks have no ratio of their logits: take ce, dice_ce or margin"
    if not masks and attack.loss in ("dlr", "margin") and attack.attack != "square":
        yield f"loss={attack.loss}: a detector has a loss of its own: leave loss out"
