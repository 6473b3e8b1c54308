"""Segmenters: softmax over classes (index masks), or a sigmoid per class (one mask each)."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from monai.losses.dice import DiceLoss
from monai.metrics.meandice import compute_dice
from torch import Tensor, nn
from torch.nn import functional

from medadv.attacks.diversity import Placings, placed_back
from medadv.attacks.untouched import untouched
from medadv.datasets.labels import Label, Prediction
from medadv.scoring.attackable import DICE_DROP, dice_to_lose
from medadv.scoring.goals import Masks
from medadv.scoring.success import SuccessRule
from medadv.spec.attack import AttackSettings
from medadv.spec.goal import Goal
from medadv.victims.tasks.aims import directed, mask_aims, mask_standing, towards
from medadv.victims.tasks.divergence import prediction_divergence, voxel_sum
from medadv.victims.tasks.margins import refuse_losses
from medadv.victims.tasks.parts import ModelParts
from medadv.victims.tasks.pixel_losses import voxel_loss
from medadv.victims.victim import two_halves

IGNORE = 255
"""Mask value of voxels that belong to no class: they count in no loss and no metric."""


@dataclass(frozen=True)
class Segmenter(ModelParts):
    """A victim that answers logits (n, K, *spatial) on the image grid; with softmax, class 0 is background."""

    module: nn.Module
    head: str
    classes: int
    spatial: int
    """Number of spatial axes."""

    task = "segmentation"

    @property
    def masks(self) -> Masks:
        """How its answers are read."""
        return Masks(self.head == "sigmoid")

    def success_rule(self, goal: Goal = "untruth") -> SuccessRule:
        """Mean foreground Dice drops by at least `DICE_DROP`, or the goal is reached."""
        if goal != "untruth":
            return self.masks.rule(goal)
        return SuccessRule(metric="dice", drop=DICE_DROP, condition="score_clean - score_adversarial >= drop")

    @property
    def highest(self) -> int:
        """The highest class index of an index mask."""
        return self.classes - 1 if self.head == "softmax" else self.classes

    def as_label(self, raw: Any) -> Label:
        """Index mask (*spatial) uint8 for softmax; for sigmoid one mask per class (K, *spatial), from index masks too."""
        mask = np.asarray(raw)
        highest = int(mask[mask != IGNORE].max(initial=0))
        if self.head == "softmax":
            if highest >= self.classes:
                raise ValueError(f"the mask holds class {highest}, the network answers classes 0 to {self.classes - 1}: use label_map")
            return mask.astype(np.uint8)
        if mask.ndim == self.spatial + 1:
            if len(mask) != self.classes:
                raise ValueError(f"{len(mask)} masks for the network's {self.classes} classes: use label_map")
            return mask.astype(np.uint8)
        if highest > self.classes:
            raise ValueError(f"the mask holds class {highest}, the network answers classes 1 to {self.classes}: use label_map")
        stacked = np.stack([mask == index + 1 for index in range(self.classes)]).astype(np.uint8)
        stacked[:, mask == IGNORE] = IGNORE
        return stacked

    def own_label(self, prediction: Prediction) -> Label:
        """The answer itself."""
        return np.asarray(prediction.answer)

    def targets(self, labels: Sequence[Label], device: torch.device, goal: Goal = "untruth") -> Tensor:
        """(n, *spatial) or (n, K, *spatial) uint8."""
        return torch.from_numpy(np.stack(mask_aims(labels, goal, self.head, self.highest))).to(device)

    def forward(self, images: Tensor) -> Any:
        """Logits (n, K, *spatial)."""
        return self.module(images)

    def split(self, outputs: Any, n: int) -> tuple[Any, Any]:
        """By samples."""
        return two_halves(outputs, n)

    def reference(self, outputs: Any) -> Any:
        """Detached logits."""
        return outputs.detach()

    def meet(self, outputs: Any, targets: Any, placings: Placings) -> tuple[Any, Any]:
        """Logits brought back to the truth's grid."""
        return placed_back(outputs, placings), targets

    @directed
    def deviation(self, outputs: Any, targets: Any, settings: AttackSettings, progress: float = 0.0) -> Tensor:
        """Mean loss of a voxel (pixel_losses.py); with `dice_ce` cross-entropy, plus the soft Dice loss of the foreground."""
        refuse_losses(settings, ("dlr",), "masks have no ratio of their logits; take ce, dice_ce or margin")
        valid = targets != IGNORE
        each = voxel_loss(settings.loss, self.head, progress, towards=towards(settings.goal))
        value = voxel_sum(each, outputs, targets) / valid.flatten(1).sum(1).clamp(min=1)
        return value + self._dice_loss(outputs, targets, valid) if settings.loss == "dice_ce" else value

    def _dice_loss(self, outputs: Tensor, targets: Tensor, valid: Tensor) -> Tensor:
        if self.head == "softmax":
            valid = valid.unsqueeze(1)
            probabilities = outputs.softmax(1)
            indices = torch.where(valid[:, 0], targets, 0).long()
            truth = functional.one_hot(indices, self.classes).movedim(-1, 1).to(outputs)
            probabilities, truth = probabilities[:, 1:], truth[:, 1:]
        else:
            probabilities, truth = outputs.sigmoid(), torch.where(valid, targets, 0).to(outputs)
        return DiceLoss(reduction="none")(probabilities * valid, truth * valid).flatten(1).mean(1)

    def wrongness(self, outputs: Any, targets: Any) -> Tensor:
        """1 less the score: the mean Dice of the foreground classes that the truth holds; without any, whether anything is answered."""
        if self.head == "softmax":
            answered = outputs.argmax(1)
            pairs = [((answered == index) & (targets != IGNORE), targets == index) for index in range(1, self.classes)]
        else:
            valid = targets != IGNORE
            pairs = [((outputs[:, k] > 0) & valid[:, k], targets[:, k] == 1) for k in range(self.classes)]
        answers, truths, both = (
            torch.stack([masks.flatten(1).sum(1) for masks in kind], 1).to(outputs)
            for kind in zip(*((answer, truth, answer & truth) for answer, truth in pairs), strict=True)
        )
        present = truths > 0
        dice = torch.where(present, 2 * both / (answers + truths).clamp(min=1), 0).sum(1) / present.sum(1).clamp(min=1)
        nothing_said = (answers.sum(1) == 0).to(outputs)
        return 1 - torch.where(present.any(1), dice, nothing_said)

    def nearness(self, outputs: Any, targets: Any, goal: Goal) -> Tensor:
        """Share of the voxels that are as the goal wants them."""
        return mask_standing(outputs, targets, goal, self.head == "sigmoid")

    def divergence(self, smoothed: Any, example: Any, settings: AttackSettings) -> Tensor:
        """KL per voxel, averaged over the image."""
        return prediction_divergence(smoothed, example, self.head, settings.target)

    def predict(self, images: Tensor) -> list[Prediction]:
        """Masks in the label's form."""
        with untouched(self.module), torch.no_grad():
            logits = self.forward(images)
            answers = logits.argmax(1) if self.head == "softmax" else logits > 0
        return [Prediction(answer) for answer in answers.to(torch.uint8).cpu().numpy()]

    def score(self, prediction: Prediction, label: Label) -> float:
        """Mean Dice of the foreground classes that the truth holds (MONAI's); without any, 1 for an empty answer, else 0."""
        answer, truth = (self._one_hot(mask, np.asarray(label)) for mask in (prediction.answer, label))
        present = truth.flatten(2).any(-1)[0]
        if not bool(present.any()):
            return float(not bool(answer.any()))
        return float(compute_dice(answer, truth, include_background=True)[0][present].mean())

    def _one_hot(self, mask: Label, truth: Any) -> Tensor:
        """Foreground masks (1, K, *spatial); voxels that the truth ignores belong to none."""
        array = np.asarray(mask)
        if self.head == "softmax":
            masks = np.stack([(array == index) & (truth != IGNORE) for index in range(1, self.classes)])
        else:
            masks = (array == 1) & (truth != IGNORE)
        return torch.from_numpy(masks).unsqueeze(0)

    def succeeded(self, clean: Prediction, adversarial: Prediction, label: Label, goal: Goal = "untruth") -> bool:
        """See `success_rule`."""
        if goal != "untruth":
            return self.masks.reached(goal, clean.answer, adversarial.answer, label)
        return self.score(clean, label) - self.score(adversarial, label) >= DICE_DROP

    def vulnerable(self, clean: Prediction, label: Label, goal: Goal = "untruth") -> bool:
        """A Dice from which the drop that counts is possible; for a goal, see `Masks.attackable`."""
        if goal != "untruth":
            return self.masks.attackable(goal, clean.answer, label)
        return bool(dice_to_lose(np.asarray(self.score(clean, label))))
