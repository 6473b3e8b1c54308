"""Which class does a goal name? Looked up among the names that the data give, so that a frozen setting stands for itself."""

from collections.abc import Mapping, Sequence

from medadv.common.errors import SpecError
from medadv.spec.attack import AttackSettings
from medadv.spec.data import BACKGROUND
from medadv.spec.goal import ClassGoal
from medadv.victims.tasks.segmentation import Segmenter
from medadv.victims.victim import TaskModel

SHOWN = 20


def with_indices(attacks: Mapping[str, AttackSettings], judge: TaskModel, names: Sequence[str] | None) -> dict[str, AttackSettings]:
    """The same attacks, goals of a class with its index.

    names: of the data's classes: for classification from class 0 on, else from 1; None where the data name none.

    Raises SpecError: a name that the data do not give, an index that the victim does not answer, or both that do not belong together.
    """
    return {name: _with_index(name, settings, judge, names) for name, settings in attacks.items()}


def _with_index(attack: str, settings: AttackSettings, judge: TaskModel, names: Sequence[str] | None) -> AttackSettings:
    goal = settings.goal
    if not isinstance(goal, ClassGoal):
        return settings
    key, first = f"attacks.{attack}.goal.class={goal.name!r}", 0 if judge.task == "classification" else 1
    index = goal.index
    if isinstance(goal.name, str):
        if first and goal.name == BACKGROUND:
            raise SpecError(f"{key}: the background is no class to become; take goal: vanish")
        if names and goal.name in names:
            found = first + list(names).index(goal.name)
            if index not in (None, found):
                raise SpecError(f"{key}: is class {found}, not index {index}: leave index out")
            index = found
        elif names or index is None:
            raise SpecError(f"{key}: {_known(names)}")
    last = _last(judge)
    if first == last:
        raise SpecError(f"{key}: the victim answers one class alone, so that nothing can become it; take vanish or fabricate")
    if index is None or not first <= index <= last:
        raise SpecError(f"{key}: the victim answers classes {first} to {last}, and this is class {index}")
    return settings.model_copy(update={"goal": ClassGoal(name=goal.name, index=index)})


def _last(judge: TaskModel) -> int:
    """The highest class that the victim answers."""
    if isinstance(judge, Segmenter):
        return judge.highest
    # Of detectors the background is one of the classes.
    return int(getattr(judge, "classes", 0)) - 1


def _known(names: Sequence[str] | None) -> str:
    if not names:
        return "the data name no classes; give its index, or data.classes (or label_map) with names"
    more = f" and {len(names) - SHOWN} more" if len(names) > SHOWN else ""
    return f"the data know no such class; they name {', '.join(names[:SHOWN])}{more}"
