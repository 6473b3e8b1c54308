"""Answers that do not look at the image, against which a victim's metric is held."""

from collections.abc import Sequence

import numpy as np

from medadv.datasets.labels import Boxes, Label, Prediction
from medadv.scoring.constant import constant_boxes


def constant_answers(task: str, training: Sequence[Label], count: int) -> list[Prediction]:
    """The same answer `count` times, the best that the training labels alone give.

    classification: the commonest class; segmentation: the pixels that belong to the class in half of the masks (two classes);
    detection: the box that overlaps most training boxes.
    """
    if task == "detection":
        return [Prediction(constant_boxes([label for label in training if isinstance(label, Boxes)]))] * count
    labels = np.stack([np.asarray(label) for label in training])
    if task == "segmentation":
        return [Prediction((labels.mean(axis=0) >= 0.5).astype(np.uint8))] * count
    shares = np.bincount(labels) / len(labels)
    return [Prediction(np.asarray(shares.argmax(), dtype=np.int64), shares)] * count


def shuffled(answers: Sequence[Prediction]) -> list[Prediction]:
    """The answers in random order, always the same one: what is left when they no longer belong to their images."""
    return [answers[index] for index in np.random.default_rng(0).permutation(len(answers))]
