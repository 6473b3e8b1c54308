"""Classifiers: softmax over classes, or a sigmoid per label."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

from medadv.attacks.untouched import untouched
from medadv.datasets.labels import Label, Prediction
from medadv.scoring.attackable import some_class_right
from medadv.scoring.goals import class_attackable, class_reached, class_rule
from medadv.scoring.success import SuccessRule
from medadv.spec.attack import OF_MASKS, AttackSettings
from medadv.spec.goal import Goal
from medadv.victims.tasks.aims import class_aims, directed
from medadv.victims.tasks.divergence import prediction_divergence
from medadv.victims.tasks.margins import (
    Aimed,
    dlr,
    has_ratio,
    label_margin,
    margin,
    ranked_wrong,
    refuse_losses,
    targeted_dlr,
    targeted_margin,
)
from medadv.victims.tasks.parts import ModelParts
from medadv.victims.victim import two_halves

THRESHOLD = 0.5
"""A label of a sigmoid head is on from this probability."""


@dataclass(frozen=True)
class Classifier(ModelParts):
    """A victim that answers logits (n, K)."""

    module: nn.Module
    head: str
    classes: int

    task = "classification"

    def success_rule(self, goal: Goal = "untruth") -> SuccessRule:
        """Softmax: top-1 changed, or is the goal's class. Sigmoid: any label changed sides of the threshold."""
        if goal != "untruth":
            return class_rule(goal)
        if self.head == "softmax":
            return SuccessRule(metric="top1", condition="prediction_adversarial != prediction_clean")
        return SuccessRule(metric="labels", threshold=THRESHOLD, condition="any prediction_adversarial != prediction_clean")

    def as_label(self, raw: Any) -> Label:
        """int -> () int64 for softmax; 0/1 values -> (K,) uint8 for sigmoid."""
        values = np.asarray(raw)
        if self.head == "softmax":
            if values.ndim != 0 or not 0 <= int(values) < self.classes:
                raise ValueError(f"label {values.tolist()} is not one of the network's {self.classes} classes (0 to {self.classes - 1})")
            return np.asarray(int(values), np.int64)
        values = values.reshape(-1)
        if len(values) != self.classes or not np.isin(values, (0, 1)).all():
            raise ValueError(f"label {values.tolist()} needs {self.classes} values of 0 or 1 for a sigmoid head")
        return values.astype(np.uint8)

    def own_label(self, prediction: Prediction) -> Label:
        """The answer itself."""
        return np.asarray(prediction.answer)

    def targets(self, labels: Sequence[Label], device: torch.device, goal: Goal = "untruth") -> Tensor:
        """(n,) int64, or (n, K) float32."""
        stacked = torch.from_numpy(np.stack(class_aims(labels, goal, self.head, self.classes))).to(device)
        return stacked if self.head == "softmax" else stacked.float()

    def forward(self, images: Tensor) -> Any:
        """Logits (n, K)."""
        return self.module(images)

    def split(self, outputs: Any, n: int) -> tuple[Any, Any]:
        """By samples."""
        return two_halves(outputs, n)

    def reference(self, outputs: Any) -> Any:
        """Detached logits."""
        return outputs.detach()

    @directed
    def deviation(self, outputs: Any, targets: Any, settings: AttackSettings, progress: float = 0.0) -> Tensor:
        """Cross-entropy with the truth, the difference of logits ratio or the margin, as the settings say.

        Of a sigmoid head the mean cross-entropy over labels, or the margin of the label that is least surely right: above 0 one at least is
        wrong. Where a head has no ratio, its margin is taken.
        """
        refuse_losses(settings, OF_MASKS, "masks alone have it; take ce, dlr or margin")
        aimed = isinstance(targets, Aimed)
        ratio = settings.loss == "dlr" and has_ratio(self.classes, self.head, aimed)
        margins = settings.loss in ("dlr", "margin")
        if self.head == "sigmoid":
            truth = targets.to(outputs)
            if margins:
                return label_margin(outputs, truth).amax(1)
            return functional.binary_cross_entropy_with_logits(outputs, truth, reduction="none").mean(1)
        if aimed:
            if margins:
                return targeted_dlr(outputs, targets) if ratio else targeted_margin(outputs, targets)
            return -functional.cross_entropy(outputs, targets.wanted, reduction="none")
        if margins:
            return dlr(outputs, targets) if ratio else margin(outputs, targets)
        return functional.cross_entropy(outputs, targets, reduction="none")

    def aimed(self, outputs: Any, targets: Any, rank: int) -> Any:
        """Towards the wrong class that the clean answer holds likeliest, or one of the next."""
        if self.head != "softmax":
            return super().aimed(outputs, targets, rank)
        if rank > self.classes - 2:
            raise ValueError(f"target_classes={rank + 1}: the victim answers {self.classes} classes, of which {self.classes - 1} are wrong")
        return Aimed(targets, ranked_wrong(outputs, targets, rank))

    def wrongness(self, outputs: Any, targets: Any) -> Tensor:
        """1 where the answer is not the truth; of several labels the share that is not."""
        if self.head == "softmax":
            truth = targets.truth if isinstance(targets, Aimed) else targets
            return (outputs.argmax(1) != truth).to(outputs)
        return ((outputs > 0) != (targets > 0)).to(outputs).mean(1)

    def nearness(self, outputs: Any, targets: Any, goal: Goal) -> Tensor:
        """1 where the answer is the class."""
        return (outputs.argmax(1) == targets).to(outputs)

    def divergence(self, smoothed: Any, example: Any, settings: AttackSettings) -> Tensor:
        """KL of the smoothed example's prediction from the example's."""
        return prediction_divergence(smoothed, example, self.head, settings.target)

    def predict(self, images: Tensor) -> list[Prediction]:
        """Top class and softmax probabilities, or thresholded labels and their probabilities."""
        with untouched(self.module), torch.no_grad():
            logits = self.forward(images).double().cpu()
        if self.head == "softmax":
            probabilities = logits.softmax(1).numpy()
            return [Prediction(np.asarray(p.argmax(), np.int64), p) for p in probabilities]
        probabilities = logits.sigmoid().numpy()
        return [Prediction((p >= THRESHOLD).astype(np.uint8), p) for p in probabilities]

    def score(self, prediction: Prediction, label: Label) -> float:
        """Probability of the truth; mean over labels for a sigmoid head."""
        probabilities, truth = prediction.probabilities, np.asarray(label)
        assert probabilities is not None
        if self.head == "softmax":
            return float(probabilities[int(truth)])
        return float(np.where(truth > 0, probabilities, 1 - probabilities).mean())

    def succeeded(self, clean: Prediction, adversarial: Prediction, label: Label, goal: Goal = "untruth") -> bool:
        """See `success_rule`."""
        if goal != "untruth":
            return class_reached(goal, clean.answer, adversarial.answer, label)
        return not np.array_equal(np.asarray(clean.answer), np.asarray(adversarial.answer))

    def vulnerable(self, clean: Prediction, label: Label, goal: Goal = "untruth") -> bool:
        """A wrong answer is only driven further from the truth; of several labels one right suffices."""
        if goal != "untruth":
            return class_attackable(goal, clean.answer, label)
        return some_class_right(clean.answer, label)
