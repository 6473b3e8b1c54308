"""What does a clinician read of a model under attack? The figures of its task, per class: clean, attacked, and the difference."""

from collections.abc import Iterable, Sequence
from itertools import chain

from medadv.evaluate.classes import class_readings
from medadv.evaluate.found_boxes import box_readings
from medadv.evaluate.masks import mask_readings
from medadv.evaluate.readings import Case, ClinicalReport


def clinical_readings(
    task: str, cases: Iterable[Case], *, head: str, classes: int, score_threshold: float, names: Sequence[str] | None = None
) -> ClinicalReport:
    """By the task's own module: `masks`, `classes` or `found_boxes`.

    Args:
        task: classification, segmentation or detection.
        cases: stored samples; of masks one at a time, which are let go.
        head: softmax or sigmoid.
        classes: that the network answers, background included where it is answered.
        score_threshold: from which a detection counts.
        names: of the classes, of foreground ones alone for masks with softmax and for boxes.
    """
    if task == "classification":
        return class_readings(list(cases), head=head, classes=classes, names=names)
    if task == "detection":
        return box_readings(list(cases), score_threshold=score_threshold, names=names)
    # All cases of a corpus have a spacing, or none has.
    each = iter(cases)
    first = next(each, None)
    in_mm = first is not None and first.spacing_mm is not None
    return mask_readings(chain([first] if first else [], each), head=head, classes=classes, in_mm=in_mm, names=names)
