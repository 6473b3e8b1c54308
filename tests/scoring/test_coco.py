"""Overlaps, matches, average precision and AUC without a network library are those of MONAI, bit for bit, and those of pycocotools."""

import contextlib
import io
from typing import Any

import numpy as np
import pytest
import torch
from monai.apps.detection.metrics.coco import COCOMetric
from monai.apps.detection.metrics.matching import matching_batch
from monai.data.box_utils import box_iou
from monai.metrics.rocauc import compute_roc_auc
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval

from medadv.datasets.labels import Array, Boxes
from medadv.scoring.boxes import AveragePrecision
from medadv.scoring.coco import overlaps
from medadv.scoring.metrics import area_under_roc


def boxes(rng: np.random.Generator, count: int, dims: int, *, near: Array | None = None) -> Array:
    """Boxes on a coarse grid, so that overlaps repeat and touch; some are moved copies of others."""
    low = rng.integers(0, 40, (count, dims)) / 2
    made = np.concatenate([low, low + rng.integers(0, 30, (count, dims)) / 2], axis=1).astype(np.float32)
    if near is not None and len(near):
        moved = near[rng.integers(len(near), size=count)] + rng.integers(0, 3, (count, 1)) / 2
        made = np.where(rng.random((count, 1)) < 0.7, moved, made).astype(np.float32)
    return made


def images(rng: np.random.Generator, dims: int, count: int) -> list[tuple[Boxes, Boxes]]:
    """(prediction, truth) with empty ones, more detections than count, equal scores, and a class that no truth holds."""
    found = []
    for _ in range(count):
        truth = boxes(rng, int(rng.integers(0, 6)), dims)
        number = int(rng.choice([0, 3, 20, 150]))
        answer = boxes(rng, number, dims, near=truth)
        scores = rng.integers(1, 12, number) / 12
        known = Boxes.of(truth, rng.integers(1, 4, len(truth)), dims=dims)
        found.append((Boxes.of(answer, rng.integers(1, 5, number), scores, dims), known))
    return found


def by_monai(pairs: list[tuple[Boxes, Boxes]], classes: list[int]) -> dict[str, float]:
    metric = COCOMetric([str(c) for c in classes], iou_list=[0.5], iou_range=(0.5, 0.95, 0.05), max_detection=[100], per_class=False)
    index = {c: i for i, c in enumerate(classes)}
    matches = []
    for answer, truth in pairs:
        known = np.isin(answer.classes, classes)
        assert answer.scores is not None
        matches += matching_batch(
            box_iou,
            metric.iou_thresholds,
            [answer.boxes[known]],
            [np.array([index[c] for c in answer.classes[known]], int)],
            [answer.scores[known]],
            [truth.boxes],
            [np.array([index[c] for c in truth.classes], int)],
            None,
            100,
        )
    values: Any = metric(matches)[0]
    return {"ap50": values["AP_IoU_0.50_MaxDet_100"], "ap": values["mAP_IoU_0.50_0.95_0.05_MaxDet_100"]}


def by_pycocotools(pairs: list[tuple[Boxes, Boxes]]) -> dict[str, float]:
    def flat(box: Array) -> list[float]:
        return [*map(float, box[:2]), *map(float, box[2:] - box[:2])]

    truths, answers = [], []
    for image, (answer, truth) in enumerate(pairs):
        for box, value in zip(truth.boxes, truth.classes, strict=True):
            number = len(truths) + 1
            truths.append({"id": number, "image_id": image, "category_id": int(value), "bbox": flat(box), "area": 1.0, "iscrowd": 0})
        assert answer.scores is not None
        for box, value, score in zip(answer.boxes, answer.classes, answer.scores, strict=True):
            answers.append({"image_id": image, "category_id": int(value), "bbox": flat(box), "score": float(score)})
    coco = COCO()
    categories = [{"id": c} for c in sorted({truth["category_id"] for truth in truths})]
    coco.dataset = {"images": [{"id": i} for i in range(len(pairs))], "annotations": truths, "categories": categories}
    with contextlib.redirect_stdout(io.StringIO()):
        coco.createIndex()
        evaluation = COCOeval(coco, coco.loadRes(answers), "bbox")
        evaluation.evaluate()
        evaluation.accumulate()
        evaluation.summarize()
    return {"ap50": float(evaluation.stats[1]), "ap": float(evaluation.stats[0])}


@pytest.mark.parametrize("dims", [2, 3])
def test_overlaps_are_those_of_monai(dims: int) -> None:
    rng = np.random.default_rng(dims)
    first, second = boxes(rng, 60, dims), boxes(rng, 40, dims)
    first[:20] += rng.random((20, 1), np.float32)
    found = overlaps(first, second)
    assert found.dtype == np.float32
    assert np.array_equal(found, box_iou(first, second))
    assert (found > 0).any()
    for wrong in (first[:, [*range(dims, 2 * dims), *range(dims)]], first * np.float32(1e30), first * np.float32("nan")):
        with pytest.raises(ValueError, match="negative or infinite"):
            overlaps(wrong, second)


@pytest.mark.parametrize("dims", [2, 3])
@pytest.mark.parametrize("seed", range(4))
def test_average_precision_is_that_of_monai(seed: int, dims: int) -> None:
    pairs = images(np.random.default_rng(seed), dims, 24)
    counter = AveragePrecision([1, 2, 3, 9])
    for answer, truth in pairs:
        counter.add(answer, truth)
    held = sorted({int(c) for _, truth in pairs for c in truth.classes})
    ranked = [pairs[i] for i, _ in sorted(enumerate(counter.matches), key=lambda pair: pair[1][0])]
    assert counter.result() == by_monai(ranked, held)
    assert 0 < counter.result()["ap50"] < 1


def test_average_precision_is_that_of_pycocotools() -> None:
    """Which sums up in another order, and keeps no equal scores apart: each image has scores of its own here."""
    rng = np.random.default_rng(7)
    pairs = []
    for answer, truth in images(rng, 2, 12):
        scores = rng.permutation(len(answer.boxes)) / 300 + rng.random() / 400
        known = np.isin(answer.classes, (1, 2, 3))
        pairs.append((Boxes.of(answer.boxes[known], answer.classes[known], (scores + 0.01)[known]), truth))
    counter = AveragePrecision([1, 2, 3])
    for answer, truth in pairs:
        counter.add(answer, truth)
    assert counter.result() == pytest.approx(by_pycocotools(pairs), abs=1e-6)


@pytest.mark.parametrize("levels", [2, 7, 1000])
def test_area_under_roc_is_that_of_monai(levels: int) -> None:
    rng = np.random.default_rng(levels)
    for count in (2, 9, 200):
        scores, truths = rng.integers(0, levels, count) / levels, rng.integers(0, 2, count)
        truths[:2] = 0, 1
        assert area_under_roc(scores, truths) == compute_roc_auc(torch.from_numpy(scores), torch.from_numpy(truths))
