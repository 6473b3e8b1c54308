"""Detectors in torchvision's convention: losses in training mode; boxes, labels and scores in evaluation mode."""

from collections import OrderedDict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional
from torchvision.models.detection import FCOS, RetinaNet

from medadv.attacks.diversity import Placings
from medadv.attacks.untouched import untouched
from medadv.common.hashing import seed_of
from medadv.datasets.labels import Boxes, Label, Prediction
from medadv.scoring.attackable import box_to_lose
from medadv.scoring.boxes import MATCH_IOU, confident, found, image_score
from medadv.scoring.goals import boxes_attackable, boxes_reached, boxes_rule
from medadv.scoring.success import SuccessRule
from medadv.spec.attack import OF_MASKS, AttackSettings
from medadv.spec.goal import Goal
from medadv.victims.inputs.normalized import Normalized
from medadv.victims.inputs.steps import InputSteps
from medadv.victims.tasks.aims import box_aims, directed
from medadv.victims.tasks.box_scores import as_boxes, standing_of
from medadv.victims.tasks.divergence import bernoulli_kl, hard_cross_entropy
from medadv.victims.tasks.margins import refuse_losses
from medadv.victims.tasks.parts import ModelParts
from medadv.victims.tasks.training_mode import training_mode


@dataclass(frozen=True)
class Dense:
    """What a one-stage detector answers before non-maximum suppression. head: name -> (n, anchors, values)."""

    head: dict[str, Tensor]
    anchors: list[Tensor]
    per_level: list[int]
    scale: tuple[float, ...]
    """Factors from the pixels of what it was given to the detector's own input, along the axes of its boxes."""
    stored: tuple[int, ...]
    """Lengths of the stored images along the tensor's axes."""


@dataclass(frozen=True)
class Ready:
    """Normalised images of a detector of two stages, whose losses need the truth to run.  stored: as for `Dense`."""

    images: Tensor
    stored: tuple[int, ...]


def reversed_axes(boxes: Tensor) -> Tensor:
    """The same boxes with their axes in reversed order: xyxy <-> yxyx, xyzxyz <-> zyxzyx.  boxes: (m, 2 * dims)."""
    return boxes.reshape(len(boxes), 2, boxes.shape[1] // 2).flip(2).reshape(boxes.shape)


@dataclass(frozen=True)
class Detector(ModelParts):
    """A victim that finds boxes. classes counts the background, class 0."""

    module: Normalized
    classes: int
    score_threshold: float
    reverse: bool = False
    """Whether the detector's boxes count axes the other way round than stored ones, which have x first."""

    task = "detection"

    def success_rule(self, goal: Goal = "untruth") -> SuccessRule:
        """No true box is matched any more, of at least one that was; on an image without boxes, one is invented that was not."""
        if goal != "untruth":
            return boxes_rule(goal, self.score_threshold)
        return SuccessRule(
            metric="true boxes matched",
            iou=MATCH_IOU,
            score_threshold=self.score_threshold,
            condition="no true box matched, of at least one matched before; without true boxes: a box invented where none was",
        )

    @property
    def network(self) -> Any:
        """The detector without its normalisation."""
        return self.module.network

    @property
    def one_stage(self) -> bool:
        """Whether the dense head outputs can be had, with their loss."""
        return isinstance(self.network, FCOS | RetinaNet)

    def heavy_parts(self) -> list[nn.Module]:
        """The backbone, and the head where it is dense; proposals, matching and suppression stay in fp32."""
        return [self.network.backbone, self.network.head] if self.one_stage else [self.network.backbone]

    def tensors(self, outputs: Any) -> Iterator[Tensor]:
        """The dense head's outputs; detectors of two stages have none."""
        if isinstance(outputs, Dense):
            yield from outputs.head.values()
        else:
            yield outputs.images

    def as_label(self, raw: Any) -> Label:
        """Boxes whose classes the detector knows."""
        assert isinstance(raw, Boxes)
        if len(raw.classes) and not 1 <= int(raw.classes.min()) <= int(raw.classes.max()) < self.classes:
            raise ValueError(f"box classes {sorted(set(raw.classes.tolist()))} are not among the detector's 1 to {self.classes - 1}")
        return raw

    def own_label(self, prediction: Prediction) -> Label:
        """The detections that count as found."""
        sure = self.confident(prediction)
        return Boxes(sure.boxes, sure.classes)

    def targets(self, labels: Sequence[Label], device: torch.device, goal: Goal = "untruth") -> list[dict[str, Tensor]]:
        """torchvision's list of {boxes, labels}; boxes in stored pixels where the victim's steps move them, since these need the image."""
        found_labels: list[dict[str, Tensor]] = []
        for label in box_aims(labels, goal, self.classes):
            boxes = torch.from_numpy(label.boxes.copy()).to(device)
            boxes = reversed_axes(boxes) if self.reverse and self.steps is None else boxes
            found_labels.append({"boxes": boxes, "labels": torch.from_numpy(label.classes.copy()).to(device)})
        return found_labels

    @property
    def steps(self) -> InputSteps | None:
        """The steps between stored images and what the detector is given, where they are a list."""
        normalize = self.module.normalize
        return normalize if isinstance(normalize, InputSteps) else None

    @property
    def tensor_axes(self) -> bool:
        """Whether the detector's boxes count axes as its image tensors do; torchvision's count them the other way round."""
        return False

    def moved(self, target: dict[str, Tensor], stored: tuple[int, ...]) -> dict[str, Tensor]:
        """A target as the detector takes it.  stored: lengths of the stored image along the tensor's axes."""
        if self.steps is None:
            return target
        boxes = self.steps.boxes_there(self._as_tensor(target["boxes"]), stored)
        return {**target, "boxes": boxes if self.tensor_axes else reversed_axes(boxes)}

    def home(self, boxes: Tensor, stored: tuple[int, ...]) -> Tensor:
        """The detector's boxes in stored pixels, x first."""
        if self.steps is None:
            return reversed_axes(boxes) if self.reverse else boxes
        return self._as_tensor(self.steps.boxes_home(boxes if self.tensor_axes else reversed_axes(boxes), stored))

    def _as_tensor(self, boxes: Tensor) -> Tensor:
        """From x first to the order of the stored tensor's axes, and back."""
        return boxes if self.reverse != self.tensor_axes else reversed_axes(boxes)

    def _target_axes(self, boxes: Tensor) -> Tensor:
        """A target's boxes to the order of the stored tensor's axes, and back."""
        if self.steps is not None:
            return self._as_tensor(boxes)
        return boxes if self.tensor_axes else reversed_axes(boxes)

    def forward(self, images: Tensor) -> Any:
        """Dense outputs of a one-stage detector; for others the normalised images, since their losses need the truth to run."""
        normalized, stored = self.module.normalize(images), tuple(images.shape[2:])
        if not self.one_stage:
            return Ready(normalized, stored)
        network = self.network
        batch, _ = network.transform(list(normalized), None)
        features = network.backbone(batch.tensors)
        maps = list(features.values()) if isinstance(features, OrderedDict | dict) else [features]
        height, width = batch.image_sizes[0]
        return Dense(
            head=network.head(maps),
            anchors=network.anchor_generator(batch, maps),
            per_level=[m.shape[2] * m.shape[3] for m in maps],
            scale=(width / normalized.shape[-1], height / normalized.shape[-2]),
            stored=stored,
        )

    def split(self, outputs: Any, n: int) -> tuple[Any, Any]:
        """By samples."""
        if isinstance(outputs, Ready):
            return replace(outputs, images=outputs.images[:n]), replace(outputs, images=outputs.images[n:])

        def part(s: slice) -> Dense:
            return replace(outputs, head={k: v[s] for k, v in outputs.head.items()}, anchors=outputs.anchors[s])

        return part(slice(None, n)), part(slice(n, None))

    def reference(self, outputs: Any) -> Any:
        """Detached outputs."""
        if isinstance(outputs, Ready):
            return replace(outputs, images=outputs.images.detach())
        return replace(outputs, head={k: v.detach() for k, v in outputs.head.items()})

    def meet(self, outputs: Any, targets: Any, placings: Placings) -> tuple[Any, Any]:
        """Boxes moved to where the image was seen."""
        pairs = zip(targets, placings, strict=True)
        return outputs, [{**t, "boxes": self._target_axes(p.boxes(self._target_axes(t["boxes"])))} if p else t for t, p in pairs]

    @directed
    def deviation(self, outputs: Any, targets: Any, settings: AttackSettings, progress: float = 0.0) -> Tensor:
        """Sum of the detector's own training losses, image by image, so that no image's loss depends on its neighbours."""
        refuse_losses(settings, ("dlr", "margin", *OF_MASKS), "a detector has its own: leave loss out")
        targets = [self.moved(target, outputs.stored) for target in targets]
        if isinstance(outputs, Ready):
            return torch.stack([self._losses(image, target) for image, target in zip(outputs.images, targets, strict=True)])
        scale = outputs.anchors[0].new_tensor([*outputs.scale, *outputs.scale])
        losses = []
        for index, target in enumerate(targets):
            scaled = {"boxes": target["boxes"].to(scale) * scale, "labels": target["labels"]}
            head = {name: values[index : index + 1] for name, values in outputs.head.items()}
            levels = (outputs.per_level,) if isinstance(self.network, FCOS) else ()
            parts = self.network.compute_loss([scaled], head, [outputs.anchors[index]], *levels)
            losses.append(torch.stack(list(parts.values())).sum())
        return torch.stack(losses)

    def wrongness(self, outputs: Any, targets: Any) -> Tensor:
        """The same for all: what a detector finds is known after suppression alone, and the loss tells iterates apart."""
        return next(self.tensors(outputs)).new_zeros(len(targets))

    def nearness(self, outputs: Any, targets: Any, goal: Goal) -> Tensor:
        """The same for all, as `wrongness` is."""
        return self.wrongness(outputs, targets)

    def seen(self, images: Tensor, targets: Any, settings: AttackSettings) -> tuple[Tensor, Tensor]:
        """By the boxes answered alone: see `standing_of`."""
        return standing_of(self.predict(images), [self.truth(target) for target in targets], settings.goal, images)

    def truth(self, target: dict[str, Tensor]) -> Boxes:
        """What `targets` was made of."""
        boxes = target["boxes"]
        return as_boxes(reversed_axes(boxes) if self.reverse and self.steps is None else boxes, target["labels"])

    def divergence(self, smoothed: Any, example: Any, settings: AttackSettings) -> Tensor:
        """One stage: KL of the dense class scores, plus smooth L1 of the box deltas weighted by the smoothed example's class score, both
        per expected detection. Two stages: the detector's losses of the example against the smoothed example's detections."""
        if isinstance(smoothed, Ready):
            pseudo = self._pseudo_targets(smoothed.images.detach())
            return torch.stack([self._losses(image, target) for image, target in zip(example.images, pseudo, strict=True)])
        p_logits, q_logits = smoothed.head["cls_logits"], example.head["cls_logits"]
        weight = p_logits.detach().sigmoid().amax(-1)
        expected = weight.sum(1).clamp(min=1)
        hard = settings.target == "hard"
        classes = hard_cross_entropy(p_logits, q_logits, "sigmoid") if hard else bernoulli_kl(p_logits, q_logits)
        deltas = functional.smooth_l1_loss(example.head["bbox_regression"], smoothed.head["bbox_regression"], reduction="none").mean(-1)
        return (classes.flatten(1).sum(1) + (weight * deltas).sum(1)) / expected

    def predict(self, images: Tensor) -> list[Prediction]:
        """Boxes in stored pixels, all that the detector's own score threshold and suppression leave."""
        with untouched(self.module), torch.no_grad():
            answers = self.network(list(self.module.normalize(images)))
        boxes = [self.home(answer["boxes"], tuple(images.shape[2:])) for answer in answers]
        return [Prediction(Boxes.of(b.cpu(), a["labels"].cpu(), a["scores"].cpu())) for a, b in zip(answers, boxes, strict=True)]

    def score(self, prediction: Prediction, label: Label) -> float:
        """AP at IoU 0.5 of the image."""
        assert isinstance(prediction.answer, Boxes)
        assert isinstance(label, Boxes)
        return image_score(prediction.answer, label)

    def succeeded(self, clean: Prediction, adversarial: Prediction, label: Label, goal: Goal = "untruth") -> bool:
        """See `success_rule`."""
        before, after = self.confident(clean), self.confident(adversarial)
        assert isinstance(label, Boxes)
        if goal != "untruth":
            return boxes_reached(goal, before, after, label)
        if not len(label.boxes):
            return not len(before.boxes) and len(after.boxes) > 0
        return bool(found(before, label).any()) and not found(after, label).any()

    def vulnerable(self, clean: Prediction, label: Label, goal: Goal = "untruth") -> bool:
        """A box found, or none invented where there is none; for a goal, see `boxes_attackable`."""
        assert isinstance(clean.answer, Boxes)
        assert isinstance(label, Boxes)
        if goal != "untruth":
            return boxes_attackable(goal, self.confident(clean), label)
        return box_to_lose(clean.answer, label, self.score_threshold)

    def confident(self, prediction: Prediction) -> Boxes:
        """The detections that count as found."""
        assert isinstance(prediction.answer, Boxes)
        return confident(prediction.answer, self.score_threshold)

    def _losses(self, image: Tensor, target: dict[str, Tensor]) -> Tensor:
        """The detector's own losses on one normalised image. Anchors are sampled with the global generator, so it is seeded the same way
        each time (inside fork_rng: the caller's generator is left alone)."""
        with training_mode(self.network), torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed_of("anchors") % (1 << 63))
            losses = self.network([image], [target])
        return torch.stack(list(losses.values())).sum()

    def _pseudo_targets(self, images: Tensor) -> list[dict[str, Tensor]]:
        with torch.no_grad():
            answers = self.network(list(images))
        # Clipped to the image, a detection may have no extent left; torchvision takes none of these as a truth.
        keep = [(a["scores"] >= self.score_threshold) & (a["boxes"][:, 2:] > a["boxes"][:, :2]).all(1) for a in answers]
        return [{"boxes": a["boxes"][k], "labels": a["labels"][k]} for a, k in zip(answers, keep, strict=True)]
