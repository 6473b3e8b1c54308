"""Victims trained on the spot, from arrays in stored units to weights and a held-out metric."""

from collections.abc import Callable, Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional

from medadv.datasets.labels import Boxes, Label
from medadv.demo.baselines import constant_answers, shuffled
from medadv.demo.victims import CLASSIFIER, DETECTOR, SEGMENTER, Recipe
from medadv.scoring.metrics import corpus_metrics
from medadv.victims.inputs.normalized import Normalized
from medadv.victims.sources.registry import build_network
from medadv.victims.tasks.classification import Classifier
from medadv.victims.tasks.detection import Detector
from medadv.victims.tasks.segmentation import Segmenter
from medadv.victims.victim import TaskModel
from medadv_transforms.normalize import Normalize, Window

Progress = Callable[[float, str], None]
State = dict[str, Tensor]
Metrics = dict[str, float]
Images = NDArray[np.uint8] | NDArray[np.int16]

WEIGHT_DECAY = 0.02
GRADIENT_NORM = 5.0
WARM_UP = 0.25
"""Part of the one-cycle schedule in which the learning rate rises."""


def train(
    recipe: Recipe,
    images: Images,
    labels: Sequence[Label],
    held_out: tuple[Images, Sequence[Label]],
    *,
    seed: int = 0,
    progress: Progress | None = None,
) -> tuple[State, Metrics]:
    """Train the recipe's network on its task; labels as a run reads them. See the three functions below."""
    unseen, truths = held_out
    if recipe.task == "classification":
        classes = [[int(np.asarray(label)) for label in each] for each in (labels, truths)]
        return train_classifier(images, classes[0], (unseen, classes[1]), recipe=recipe, seed=seed, progress=progress)
    if recipe.task == "segmentation":
        masks = [np.stack([np.asarray(label) for label in each]) for each in (labels, truths)]
        return train_segmenter(images, masks[0], (unseen, masks[1]), recipe=recipe, seed=seed, progress=progress)
    boxes = [[label.boxes for label in each if isinstance(label, Boxes)] for each in (labels, truths)]
    return train_detector(images, boxes[0], (unseen, boxes[1]), recipe=recipe, seed=seed, progress=progress)


def train_classifier(
    images: Images,
    labels: Sequence[int],
    held_out: tuple[Images, Sequence[int]],
    *,
    recipe: Recipe = CLASSIFIER,
    seed: int = 0,
    progress: Progress | None = None,
) -> tuple[State, Metrics]:
    """Train on photographs (n, 3, y, x) uint8 with class indices.

    Gives the network's weights, and auc and accuracy on `held_out`; the names that start with baseline_ are those of the
    commonest class, with shuffled_ those of the same network's answers to other images.
    """
    truth = torch.as_tensor(np.asarray(labels, dtype=np.int64))

    def loss(module: Normalized, batch: Tensor, picked: Tensor, flips: tuple[bool, bool]) -> Tensor:
        return functional.cross_entropy(module(_flip(batch, flips)), truth[picked])

    module = _fit(recipe, images, loss, seed, progress)
    victim = Classifier(module, "softmax", len(recipe.classes))
    training: list[Label] = [np.asarray(label, dtype=np.int64) for label in labels]
    truths: list[Label] = [np.asarray(label, dtype=np.int64) for label in held_out[1]]
    return _network_state(module), _metrics(victim, recipe, training, held_out[0], truths)


def train_segmenter(
    images: Images,
    masks: NDArray[np.uint8],
    held_out: tuple[Images, NDArray[np.uint8]],
    *,
    recipe: Recipe = SEGMENTER,
    seed: int = 0,
    progress: Progress | None = None,
) -> tuple[State, Metrics]:
    """Train on CT slices (n, 1, x, y) int16 HU with index masks (n, x, y).

    Gives the network's weights, and mean dice on `held_out`, with baseline_dice, that of the one mask most slices agree on,
    and shuffled_dice, that of the same network's answers to other slices.
    """
    truth = torch.as_tensor(masks.astype(np.int64))

    def loss(module: Normalized, batch: Tensor, picked: Tensor, flips: tuple[bool, bool]) -> Tensor:
        logits, wanted = module(_flip(batch, (flips[0], False))), _flip(truth[picked][:, None], (flips[0], False))[:, 0]
        lesion = logits.softmax(1)[:, 1]
        overlap, size = (lesion * wanted).sum((1, 2)), (lesion + wanted).sum((1, 2))
        # Dice keeps small lesions from being lost among the background.
        return functional.cross_entropy(logits, wanted) + (1 - (2 * overlap + 1) / (size + 1)).mean()

    module = _fit(recipe, images, loss, seed, progress)
    victim = Segmenter(module, "softmax", len(recipe.classes), 2)
    return _network_state(module), _metrics(victim, recipe, list(masks), held_out[0], list(held_out[1]))


def train_detector(
    images: Images,
    boxes: Sequence[NDArray[np.float32]],
    held_out: tuple[Images, Sequence[NDArray[np.float32]]],
    *,
    recipe: Recipe = DETECTOR,
    seed: int = 0,
    progress: Progress | None = None,
) -> tuple[State, Metrics]:
    """Train on frames (n, 3, y, x) uint8 with boxes (m, 4) float32 xyxy of one class.

    Gives the network's weights, and ap50 and ap on `held_out`, with baseline_ap50, that of the one box that overlaps most
    training boxes, and shuffled_ap50, that of the same detector's answers to other frames: a collapsed detector, which gives
    every frame the same boxes, scores no better than that.
    """
    truth = [torch.as_tensor(each) for each in boxes]
    side = images.shape[-1]

    def loss(module: Normalized, batch: Tensor, picked: Tensor, flips: tuple[bool, bool]) -> Tensor:
        targets = [_flip_boxes(truth[index], side, flips) for index in picked.tolist()]
        labelled = [{"boxes": each, "labels": torch.ones(len(each), dtype=torch.int64)} for each in targets]
        losses: dict[str, Tensor] = module.network(list(module.normalize(_flip(batch, flips))), labelled)
        return torch.stack(list(losses.values())).sum()

    module = _fit(recipe, images, loss, seed, progress)
    victim = Detector(module, len(recipe.classes), score_threshold=0.5)
    training: list[Label] = [Boxes.of(each, np.ones(len(each))) for each in boxes]
    truths = [Boxes.of(each, np.ones(len(each))) for each in held_out[1]]
    return _network_state(module), _metrics(victim, recipe, training, held_out[0], truths)


def _fit(
    recipe: Recipe,
    images: Images,
    loss: Callable[[Normalized, Tensor, Tensor, tuple[bool, bool]], Tensor],
    seed: int,
    progress: Progress | None,
) -> Normalized:
    """AdamW on a one-cycle schedule. The last weights are kept: nothing is chosen on held-out images."""
    stored = torch.as_tensor(images.astype(np.float32))
    draw = torch.Generator().manual_seed(seed)
    steps = recipe.epochs * (len(stored) // recipe.batch)
    # Initial weights, and a draw inside torchvision's detectors, come from the global generator; the caller's is left alone.
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        module = Normalized(_normalisation(recipe), build_network(recipe.network, recipe.arguments)).train()
        optimiser = torch.optim.AdamW(module.parameters(), lr=recipe.learning_rate, weight_decay=WEIGHT_DECAY)
        schedule = torch.optim.lr_scheduler.OneCycleLR(optimiser, recipe.learning_rate, total_steps=steps, pct_start=WARM_UP)
        for step in range(steps):
            start = step * recipe.batch % (len(stored) // recipe.batch * recipe.batch)
            if start == 0:
                order = torch.randperm(len(stored), generator=draw)
            picked = order[start : start + recipe.batch]
            flips = torch.randint(2, (2,), generator=draw).tolist()
            optimiser.zero_grad()
            value = loss(module, stored[picked], picked, (bool(flips[0]), bool(flips[1])))
            value.backward()
            nn.utils.clip_grad_norm_(module.parameters(), GRADIENT_NORM)
            optimiser.step()
            schedule.step()
            if progress:
                progress((step + 1) / steps, f"training {recipe.name}")
    return module.eval()


def _metrics(
    judge: TaskModel, recipe: Recipe, training: Sequence[Label], images: Images, truths: Sequence[Label]
) -> Metrics:
    stored = torch.as_tensor(images.astype(np.float32))
    answers = [answer for batch in stored.split(recipe.batch) for answer in judge.predict(batch)]
    metrics = corpus_metrics(
        recipe.task, [(truth, answer.answer, judge.score(answer, truth)) for truth, answer in zip(truths, answers, strict=True)]
    )
    for name, others in (("baseline", constant_answers(recipe.task, training, len(truths))), ("shuffled", shuffled(answers))):
        compared = [(truth, other.answer, judge.score(other, truth)) for truth, other in zip(truths, others, strict=True)]
        metrics |= {f"{name}_{key}": value for key, value in corpus_metrics(recipe.task, compared).items()}
    return metrics


def _network_state(module: Normalized) -> State:
    return {key: value.detach().clone().contiguous() for key, value in module.network.state_dict().items()}


def _normalisation(recipe: Recipe) -> nn.Module:
    if window := recipe.normalize.get("window"):
        return Window(window[0], window[1])
    return Normalize(recipe.normalize["mean"], recipe.normalize["std"])


def _flip(batch: Tensor, flips: tuple[bool, bool]) -> Tensor:
    """Mirror images (n, C, a, b) along the last axis, the one before it, or both."""
    axes = [axis for axis, wanted in ((-1, flips[1]), (-2, flips[0])) if wanted]
    return batch.flip(axes) if axes else batch


def _flip_boxes(boxes: Tensor, side: int, flips: tuple[bool, bool]) -> Tensor:
    """The boxes, (m, 4) xyxy, of a square image (y, x) that `_flip` has mirrored."""
    x0, y0, x1, y1 = boxes.unbind(1)
    if flips[1]:
        x0, x1 = side - x1, side - x0
    if flips[0]:
        y0, y1 = side - y1, side - y0
    return torch.stack((x0, y0, x1, y1), dim=1)
