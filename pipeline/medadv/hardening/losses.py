"""What does a batch of a corpus cost a model in training? The task's loss on what it sees, or TRADES.

TRADES: Zhang, Yu, Jiao, Xing, El Ghaoui, Jordan, Theoretically Principled Trade-off between Robustness and Accuracy, ICML 2019
(arXiv 1901.08573): the loss on clean images plus beta times the divergence of the answers to attacked images from those to clean ones.
"""

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from medadv.spec.attack import AttackSettings
from medadv.spec.data import Task
from medadv.training.labels import labels_of
from medadv.victims.victim import TaskModel

OF_TASK: dict[Task, AttackSettings] = {
    "classification": AttackSettings(attack="pgd", epsilon=1, step=1),
    # Dice keeps small structures from being lost among the background.
    "segmentation": AttackSettings(attack="pgd", epsilon=1, step=1, loss="dice_ce"),
    "detection": AttackSettings(attack="pgd", epsilon=1, step=1),
}
"""Whose loss deviation is a task's loss in training; detectors have their own."""


def batch_loss(model: TaskModel, batch: Mapping[Any, Any], device: torch.device, beta: float | None) -> Tensor:
    """Mean over the batch of what is to be made small.

    batch: from `medadv.collate`; `image` (n, C, *spatial) is what the model sees, in stored units.  beta: of TRADES, for which `image` is
    clean and `adversarial` beside it; None for the loss on `image` alone.
    """
    settings = OF_TASK[model.task]  # type: ignore[index]
    images = batch["image"].to(device)
    targets = model.targets(labels_of(model, batch, "label", images.shape[2:]), device)
    outputs = model.forward(images)
    loss = model.deviation(outputs, targets, settings)
    if beta is not None:
        loss = loss + beta * model.divergence(outputs, model.forward(batch["adversarial"].to(device)), settings)
    return loss.mean()
