"""Where does an attack drive the answer? A goal as targets of the task's own loss, and whether it goes away from them or towards them.

    untruth     away from the truth
    fabricate   away from the truth's background: its foreground has no say, and boxes have none
    vanish      towards nothing but background, or no boxes
    class       towards the truth with all its foreground, or boxes, of that class; a classifier towards the class

The voxels that a truth ignores are ignored by every goal. What has been reached is judged on stored answers (scoring/goals.py); what is
said here of logits, while an attack climbs, orders iterates in the same way.
"""

from collections.abc import Callable, Sequence
from functools import wraps
from typing import Any, TypeVar, cast

import numpy as np
from torch import Tensor

from medadv.datasets.labels import Array, Boxes, Label
from medadv.scoring.constant import IGNORE
from medadv.scoring.goals import VANISHED, Masks
from medadv.spec.attack import AttackSettings
from medadv.spec.goal import ClassGoal, Goal, index_of, meaningless

Loss = TypeVar("Loss", bound=Callable[..., Tensor])


def directed(loss: Loss) -> Loss:
    """A task's loss from the targets of the goal as its deviation: what an attack raises, minus the loss where it goes towards them."""

    @wraps(loss)
    def deviation(self: Any, outputs: Any, targets: Any, settings: AttackSettings, progress: float = 0.0) -> Tensor:
        value = loss(self, outputs, targets, settings, progress)
        return -value if towards(settings.goal) else value

    return cast(Loss, deviation)


def towards(goal: Goal) -> bool:
    """Whether the attack goes towards its targets."""
    return goal == "vanish" or isinstance(goal, ClassGoal)


def class_aims(labels: Sequence[Label], goal: Goal, head: str, classes: int) -> list[Array]:
    """Of a classifier. ValueError where the goal means nothing to it."""
    _refuse(goal, "classification", head, range(classes))
    return [np.asarray(index_of(goal), np.int64) if isinstance(goal, ClassGoal) else np.asarray(label) for label in labels]


def mask_aims(labels: Sequence[Label], goal: Goal, head: str, highest: int) -> list[Array]:
    """Of a segmenter.  highest: class, counted from 1.  ValueError where the goal means nothing to it."""
    _refuse(goal, "segmentation", head, range(1, highest + 1))
    return [_mask_aim(np.asarray(label), goal, Masks(head == "sigmoid")) for label in labels]


def _mask_aim(truth: Array, goal: Goal, masks: Masks) -> Array:
    if goal == "untruth":
        return truth
    if goal == "vanish":
        return np.where(truth == IGNORE, truth, 0).astype(truth.dtype)
    # (*spatial), which broadcasts over planes.
    foreground = masks.foreground(truth, truth)
    if goal == "fabricate":
        return np.where(foreground, IGNORE, truth).astype(truth.dtype)
    index = index_of(goal)
    if not masks.planes:
        return np.where(foreground, index, truth).astype(truth.dtype)
    named = np.zeros_like(truth)
    named[index - 1] = 1
    return np.where(foreground, named, truth)


def box_aims(labels: Sequence[Label], goal: Goal, classes: int) -> list[Boxes]:
    """Of a detector.  classes: the background counted.  ValueError where the goal means nothing to it."""
    _refuse(goal, "detection", "softmax", range(1, classes))
    aims = []
    for label in labels:
        assert isinstance(label, Boxes)
        if isinstance(goal, ClassGoal):
            aims.append(Boxes(label.boxes, np.full_like(label.classes, index_of(goal))))
        else:
            aims.append(label if goal == "untruth" else Boxes(label.boxes[:0], label.classes[:0]))
    return aims


def mask_standing(outputs: Tensor, targets: Tensor, goal: Goal, planes: bool) -> Tensor:
    """How near an answer is to a goal other than `untruth`, (n,) in [0, 1].

    class: half of it for the goal being reached (as nearly as can be said without the clean answer), the rest the share of the truth's
    foreground that answers the class; vanish: the share of voxels without foreground; fabricate: that of foreground away from the truth.

    outputs: logits (n, K, *spatial).  targets: as `mask_aims` gives them.
    """
    on = outputs > 0 if planes else None
    known = (targets != IGNORE).all(1) if planes else targets != IGNORE
    foreground = (on.any(1) if on is not None else outputs.argmax(1) > 0) & known
    if not isinstance(goal, ClassGoal):
        share = _count(foreground) / foreground[0].numel()
        return share if goal == "fabricate" else 1 - share
    index = index_of(goal)
    named = ((on[:, index - 1] & (on.sum(1) == 1)) if on is not None else outputs.argmax(1) == index) & known
    wanted = targets[:, index - 1] == 1 if planes else targets == index
    held, answered = _count(wanted), _count(foreground)
    all_of_it = (_count(foreground & ~named) == 0) & (answered > VANISHED * held)
    return (all_of_it.float() + _count(named & wanted) / held.clamp(min=1)) / 2


def _count(voxels: Tensor) -> Tensor:
    return voxels.flatten(1).sum(1).float()


def _refuse(goal: Goal, task: str, head: str, known: range) -> None:
    if why := meaningless(goal, task, head):
        raise ValueError(f"goal: {why}")
    if isinstance(goal, ClassGoal) and index_of(goal) not in known:
        raise ValueError(f"goal.class={goal.name!r} is class {goal.index}, and the network answers {known.start} to {known.stop - 1}")
