"""Has an attack reached its goal, and could it at all? Rules on answers and truths, for every goal but `untruth`.

An answer that is at the goal when the image is clean is not counted, and no success; neither is one that the goal would make right. The
rules, in the numbers below:

- class: of a classifier, the top class is the one named. Of masks, all foreground of the answer is of that class, and there is more of it
  than `VANISHED` of the clean answer's: what is gone has not become anything. Of boxes, every true box is matched by one of that class, and
  none of another class by one of its own.
- vanish: of masks, the answer's foreground is at most `VANISHED` of the clean answer's. Of boxes, none is answered any more: no true one is
  matched, and none invented.
- fabricate: foreground away from the truth grows by `FABRICATED` of the image, or boxes that meet no true one at `MEETS` by one.
"""

from dataclasses import dataclass

import numpy as np

from medadv.datasets.labels import Array, Boxes, Label
from medadv.scoring.boxes import MATCH_IOU, found
from medadv.scoring.coco import overlaps
from medadv.scoring.constant import IGNORE
from medadv.scoring.success import SuccessRule
from medadv.spec.goal import ClassGoal, Goal, index_of

VANISHED = 0.1
"""Share of the clean answer's foreground up to which an answer's has vanished."""
FABRICATED = 0.01
"""Share of the image by which foreground away from the truth has to grow."""
MEETS = 0.1
"""Overlap from which a box meets a true one."""


def class_rule(goal: Goal) -> SuccessRule:
    """Of a classifier."""
    assert isinstance(goal, ClassGoal)
    return SuccessRule(metric="top1", condition="prediction_adversarial == class", index=index_of(goal))


def class_reached(goal: Goal, clean: Label, adversarial: Label, truth: Label) -> bool:
    """Of a classifier's top classes."""
    assert isinstance(goal, ClassGoal)
    return class_attackable(goal, clean, truth) and int(np.asarray(adversarial)) == index_of(goal)


def class_attackable(goal: Goal, clean: Label, truth: Label) -> bool:
    """Whether another class is answered, and another is right."""
    assert isinstance(goal, ClassGoal)
    return index_of(goal) not in (int(np.asarray(clean)), int(np.asarray(truth)))


@dataclass(frozen=True)
class Masks:
    """How masks are read: one index mask (*spatial), or with `planes` one mask a class (K, *spatial).

    Voxels that the truth ignores are in no count but that of the image.
    """

    planes: bool

    def foreground(self, mask: Label, truth: Label) -> Array:
        """Voxels of any class, (*spatial) bool."""
        array = np.asarray(mask)
        return np.asarray(((array == 1).any(0) if self.planes else (array != 0) & (array != IGNORE)) & self.counted(truth))

    def only(self, index: int, mask: Label, truth: Label) -> Array:
        """Voxels of one class, counted from 1, and of no other, (*spatial) bool."""
        array = np.asarray(mask)
        alone = (array[index - 1] == 1) & ((array == 1).sum(0) == 1) if self.planes else array == index
        return np.asarray(alone & self.counted(truth))

    def counted(self, truth: Label) -> Array:
        """Voxels that the truth knows, (*spatial) bool."""
        known = np.asarray(truth) != IGNORE
        return np.asarray(known.all(0) if self.planes else known)

    def away(self, mask: Label, truth: Label) -> int:
        """Voxels of the foreground that are none by the truth."""
        return int((self.foreground(mask, truth) & ~self.foreground(truth, truth)).sum())

    def rule(self, goal: Goal) -> SuccessRule:
        """As it is stored."""
        if isinstance(goal, ClassGoal):
            condition = "all foreground_adversarial == class, and foreground_adversarial > share * foreground_clean"
            return SuccessRule(metric="foreground", share=VANISHED, index=index_of(goal), condition=condition)
        if goal == "vanish":
            return SuccessRule(metric="foreground", share=VANISHED, condition="foreground_adversarial <= share * foreground_clean")
        condition = "foreground away from the truth: adversarial - clean >= share * image"
        return SuccessRule(metric="foreground", share=FABRICATED, condition=condition)

    def reached(self, goal: Goal, clean: Label, adversarial: Label, truth: Label) -> bool:
        """By `rule`."""
        if not self.attackable(goal, clean, truth):
            return False
        if goal == "fabricate":
            # Divided, not multiplied: a hundredth of whole numbers is then the number that FABRICATED is.
            return (self.away(adversarial, truth) - self.away(clean, truth)) / self.counted(truth).size >= FABRICATED
        before, after = (int(self.foreground(mask, truth).sum()) for mask in (clean, adversarial))
        if isinstance(goal, ClassGoal):
            return self._all(index_of(goal), adversarial, truth) and (not before or after / before > VANISHED)
        return after / before <= VANISHED

    def attackable(self, goal: Goal, clean: Label, truth: Label) -> bool:
        """class: the truth holds another class, and not all that is answered is of the one named; vanish: something is answered;
        fabricate: where neither truth nor answer have foreground is room for as much as counts."""
        if isinstance(goal, ClassGoal):
            index, held = index_of(goal), self.foreground(truth, truth)
            return bool((held & ~self.only(index, truth, truth)).any()) and not self._all(index, clean, truth)
        if goal == "vanish":
            return bool(self.foreground(clean, truth).any())
        free = self.counted(truth) & ~self.foreground(truth, truth) & ~self.foreground(clean, truth)
        return int(free.sum()) / free.size >= FABRICATED

    def _all(self, index: int, mask: Label, truth: Label) -> bool:
        answered = self.foreground(mask, truth)
        return bool(answered.any()) and not (answered & ~self.only(index, mask, truth)).any()


def boxes_rule(goal: Goal, score_threshold: float) -> SuccessRule:
    """Of a detector."""
    if isinstance(goal, ClassGoal):
        return SuccessRule(
            metric="true boxes of the class",
            iou=MATCH_IOU,
            score_threshold=score_threshold,
            index=index_of(goal),
            condition="every true box matched by one of class, none of another class by one of its own",
        )
    if goal == "vanish":
        condition = "no box answered, of a true one matched before"
        return SuccessRule(metric="boxes", iou=MATCH_IOU, score_threshold=score_threshold, condition=condition)
    condition = "boxes that meet no true one: adversarial - clean >= 1"
    return SuccessRule(metric="boxes", iou=MEETS, score_threshold=score_threshold, condition=condition)


def boxes_reached(goal: Goal, clean: Boxes, adversarial: Boxes, truth: Boxes) -> bool:
    """By `boxes_rule`, of detections that count."""
    if not boxes_attackable(goal, clean, truth):
        return False
    if isinstance(goal, ClassGoal):
        return _all_of(index_of(goal), adversarial, truth)
    if goal == "vanish":
        return not len(adversarial.boxes)
    return away(adversarial, truth) > away(clean, truth)


def boxes_attackable(goal: Goal, clean: Boxes, truth: Boxes) -> bool:
    """class: a true box is of another, and not all are answered as the one named; vanish: a true box is matched; fabricate: always.

    clean: detections that count.
    """
    if isinstance(goal, ClassGoal):
        return bool((truth.classes != index_of(goal)).any()) and not _all_of(index_of(goal), clean, truth)
    return bool(found(clean, truth).any()) if goal == "vanish" else True


def away(answer: Boxes, truth: Boxes) -> int:
    """How many boxes of an answer meet no true one, whatever its class."""
    if not len(answer.boxes) or not len(truth.boxes):
        return len(answer.boxes)
    return int((overlaps(answer.boxes, truth.boxes).max(1) < MEETS).sum())


def _all_of(index: int, answer: Boxes, truth: Boxes) -> bool:
    named = Boxes(truth.boxes, np.full_like(truth.classes, index))
    own = found(answer, truth) & (truth.classes != index)
    return bool(found(answer, named).all()) and not own.any()
