"""Is the victim any better than an answer that ignores the image? Held against the truths that the shards store."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from medadv.corpus.manifest import Baseline, Metrics
from medadv.datasets.labels import Array, Boxes, Label
from medadv.plan.plan_settings import DataFacts
from medadv.scoring.constant import constant_accuracy, constant_boxes, constant_dice
from medadv.scoring.metrics import corpus_metrics
from medadv.store.layout import answer_at
from medadv.store.reader import open_shard

MOST_MASKS = 512
"""Masks looked at, spread evenly over the corpus."""
LONGEST = {2: 512, 3: 64}
"""Axes of the grid on which masks are compared, by their number, are no longer: each mask is brought there by its nearest pixels."""
CAUSES = (
    "usual causes: normalize of another scale or unit than in training, probabilities instead of logits, swapped axes, other classes or "
    "another order of them, missing labels"
)


def baseline(data: DataFacts, metrics: Metrics, shards: Sequence[tuple[Path, dict[str, Array]]]) -> Baseline:
    """The headline metric of the clean answers beside that of a constant answer.

    metrics: of any attack, for its clean answers.  shards: each file with its small arrays.
    """
    value, answer = _constant(data.task, metrics.metric, shards)
    clean = metrics.clean
    # Where the truth is the victim's own answer, it is always right: only answers that are all the same say something.
    perfect = clean == 1 and data.label == "given"
    warning = None
    if value is not None and clean is not None and clean <= value and not perfect:
        warning = (
            f"clean {metrics.metric} {clean:.3f} is no better than {value:.3f} of an answer that ignores the image ({answer}): "
            f"the victim cannot be right; {CAUSES}"
        )
    return Baseline(metric=metrics.metric, clean=clean, ignoring_image=value, answer=answer, warning=warning)


def _constant(task: str, metric: str, shards: Sequence[tuple[Path, dict[str, Array]]]) -> tuple[float | None, str]:
    """The metric of the best constant answer, None where nothing is known, and what the answer is."""
    if task == "segmentation":
        masks, planes = _masks([path for path, _ in shards])
        # A single mask is its own commonest one.
        return (constant_dice(masks, planes) if len(masks) > 1 else None), "the pixelwise commonest mask"
    truths = [answer_at(arrays, "label", index) for _, arrays in shards for index in range(len(arrays["sample_id"]))]
    if task == "detection":
        boxes = [truth for truth in truths if isinstance(truth, Boxes)]
        return _constant_boxes(boxes), "the same box a class in every image"
    if metric == "auc":
        return 0.5, "chance"
    return (constant_accuracy(np.stack([np.asarray(truth) for truth in truths])) if len(truths) > 1 else None), "the commonest class"


def _constant_boxes(truths: Sequence[Boxes]) -> float | None:
    """No boxes at all have an AP of 0, so the constant ones are the better answer."""
    if not any(len(truth.boxes) for truth in truths):
        return None
    answer = constant_boxes(truths)
    pairs: list[tuple[Label, Label, float]] = [(truth, answer, 0.0) for truth in truths]
    return corpus_metrics("detection", pairs)["ap50"]


def _masks(paths: Sequence[Path]) -> tuple[Array, bool]:
    """Masks on one grid, and whether they are planes of 0 and 1."""
    places: list[tuple[Path, int]] = []
    grids: list[tuple[int, ...]] = []
    planes = False
    for path in paths:
        with open_shard(path) as file:
            spatial = file["image"].ndim - 2
            planes = file["label"].ndim == spatial + 2
            places += [(path, index) for index in range(len(file["label"]))]
            grids.append(file["label"].shape[-spatial:])
    longest = [min(max(lengths), LONGEST[len(grids[0])]) for lengths in zip(*grids, strict=True)]
    chosen = sorted({int(place) for place in np.linspace(0, len(places) - 1, min(MOST_MASKS, len(places)))})
    found: list[Array] = []
    for path in paths:
        rows = [places[place][1] for place in chosen if places[place][0] == path]
        if rows:
            with open_shard(path) as file:
                found += [_onto(file["label"][row], longest) for row in rows]
    return np.stack(found), planes


def _onto(mask: Any, longest: Sequence[int]) -> Array:
    values = np.asarray(mask)
    for axis, wanted in enumerate(longest, values.ndim - len(longest)):
        have = values.shape[axis]
        if have != wanted:
            values = values.take(((np.arange(wanted) + 0.5) * have / wanted).astype(int), axis)
    return values
