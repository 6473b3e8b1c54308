"""Training on the spot: it learns what can be learned, leaves no trace on the caller, and repeats itself; cards match weights."""

import dataclasses
import hashlib
import json
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from medadv.datasets.labels import Boxes, Prediction
from medadv.demo.baselines import constant_answers, shuffled
from medadv.demo.training import _flip, _flip_boxes, train_classifier, train_detector, train_segmenter
from medadv.demo.victims import CLASSIFIER, DETECTOR, SEGMENTER
from medadv.demo.weights import write_victim
from medadv.victims.sources.registry import build_network

SIDE = 32


def _squares(count: int) -> tuple[np.ndarray, list[np.ndarray], np.ndarray]:
    """Grey images with one bright square each: (n, 3, y, x), its boxes, and whether it is large."""
    rng = np.random.default_rng(1)
    images = rng.integers(60, 90, (count, 3, SIDE, SIDE)).astype(np.uint8)
    boxes, large = [], np.arange(count) % 2
    for image, big in zip(images, large, strict=True):
        side = 14 if big else 5
        x, y = rng.integers(2, SIDE - side - 1, 2)
        image[:, y : y + side, x : x + side] = 220
        boxes.append(np.array([[x, y, x + side, y + side]], dtype=np.float32))
    return images, boxes, large


def test_classifier_learns_repeats_and_leaves_the_global_generator_alone() -> None:
    images, _, large = _squares(32)
    recipe = dataclasses.replace(CLASSIFIER, epochs=6, batch=8)
    torch.manual_seed(5)
    expected = torch.rand(1)
    torch.manual_seed(5)
    fractions: list[float] = []
    state, metrics = train_classifier(
        images[:24], large[:24].tolist(), (images[24:], large[24:].tolist()), recipe=recipe, progress=lambda f, text: fractions.append(f)
    )
    assert torch.equal(torch.rand(1), expected)
    assert metrics["auc"] == 1
    assert metrics["baseline_accuracy"] == 0.5
    assert len(fractions) == 6 * 3
    assert fractions[-1] == 1
    again, _ = train_classifier(images[:24], large[:24].tolist(), (images[24:], large[24:].tolist()), recipe=recipe)
    assert all(torch.equal(state[key], again[key]) for key in state)
    build_network(recipe.network, recipe.arguments).load_state_dict(state)


def test_segmenter_learns_what_the_window_shows() -> None:
    images, _, _ = _squares(24)
    hu = (images[:, :1].astype(np.int16) - 150) * 10
    masks = (images[:, 0] > 150).astype(np.uint8)
    recipe = dataclasses.replace(SEGMENTER, epochs=30, batch=4)
    _, metrics = train_segmenter(hu[:16], masks[:16], (hu[16:], masks[16:]), recipe=recipe)
    assert metrics["dice"] > 0.8
    assert metrics["baseline_dice"] < 0.4


def test_detector_gives_loadable_weights_and_all_its_comparisons() -> None:
    images, boxes, _ = _squares(12)
    recipe = dataclasses.replace(DETECTOR, epochs=1, batch=4, arguments={**DETECTOR.arguments, "size": SIDE, "channels": 32})
    state, metrics = train_detector(images[:8], boxes[:8], (images[8:], boxes[8:]), recipe=recipe)
    assert set(metrics) == {f"{prefix}{name}" for prefix in ("", "baseline_", "shuffled_") for name in ("ap50", "ap")}
    build_network(recipe.network, recipe.arguments).load_state_dict(state)


@pytest.mark.parametrize("flips", [(False, False), (True, False), (False, True), (True, True)])
def test_flipped_boxes_still_hold_what_they_held(flips: tuple[bool, bool]) -> None:
    images, boxes, _ = _squares(4)
    flipped = _flip(torch.as_tensor(images), flips)
    for image, box in zip(flipped, boxes, strict=True):
        x0, y0, x1, y1 = _flip_boxes(torch.as_tensor(box), SIDE, flips)[0].int().tolist()
        assert (image[0, y0:y1, x0:x1] == 220).all()
        assert int((image[0] == 220).sum()) == (x1 - x0) * (y1 - y0)


def test_constant_answers_are_the_best_of_their_kind() -> None:
    labels = [np.asarray(label) for label in (1, 0, 1)]
    answer = constant_answers("classification", labels, 2)
    assert [int(np.asarray(each.answer)) for each in answer] == [1, 1]
    masks = [np.array([[1, 1, 0]]), np.array([[1, 0, 0]]), np.array([[1, 1, 0]])]
    np.testing.assert_array_equal(np.asarray(constant_answers("segmentation", masks, 1)[0].answer), [[1, 1, 0]])
    common, rare = [0, 0, 10, 10], [20, 20, 30, 30]
    boxes = constant_answers("detection", [Boxes.of([rare], [1]), Boxes.of([common], [1]), Boxes.of([common], [1])], 1)
    assert isinstance(boxes[0].answer, Boxes)
    assert boxes[0].answer.boxes.tolist() == [common]
    answers = [Prediction(np.asarray(i)) for i in range(20)]
    mixed = [int(np.asarray(each.answer)) for each in shuffled(answers)]
    assert sorted(mixed) == list(range(20))
    assert sum(a == b for a, b in enumerate(mixed)) < 5


def test_card_names_its_weights(tmp_path: Path) -> None:
    state = build_network(SEGMENTER.network, SEGMENTER.arguments).state_dict()
    path = write_victim(tmp_path, SEGMENTER, state, {"dice": 0.95}, trained_on=10, held_out=2, seed=0)
    card = json.loads(path.with_suffix(".json").read_text())
    assert card["weights_sha256"].removeprefix("sha256:") == hashlib.sha256(path.read_bytes()).hexdigest()
    assert (card["network"], card["normalize"], card["metrics"]) == (SEGMENTER.network, SEGMENTER.normalize, {"dice": 0.95})
    build_network(card["network"], card["arguments"]).load_state_dict(load_file(path))
