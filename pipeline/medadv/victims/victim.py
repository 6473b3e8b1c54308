"""What is attacked, and who judges? A model as its task shows it, and the pair of both that a plan works with."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol, Self

import torch
from torch import Tensor, nn

from medadv.attacks.objective import Objective
from medadv.common.record import Json
from medadv.datasets.labels import Label, Prediction
from medadv.scoring.success import SuccessRule
from medadv.spec.goal import Goal


class Aim(Objective, Protocol):
    """What an attack differentiates: loss terms, and labels in the form that they take."""

    def targets(self, labels: Sequence[Label], device: torch.device, goal: Goal = "untruth") -> Any:
        """Labels of a batch in the form that `deviation` takes, as the goal changes them; ValueError where it means nothing here."""
        ...


class TaskModel(Aim, Protocol):
    """A model with its normalisation, as its task shows it to the attack and to the scoring: loss terms, predictions, success rule."""

    @property
    def task(self) -> str:
        """classification, segmentation or detection."""
        ...

    @property
    def classes(self) -> int:
        """How many it answers, the background of a detector and of index masks included."""
        ...

    def success_rule(self, goal: Goal = "untruth") -> SuccessRule:
        """By what `succeeded` judges."""
        ...

    def as_label(self, raw: Any) -> Label:
        """The stored form of a raw label for this victim's head; ValueError when it does not fit."""
        ...

    def own_label(self, prediction: Prediction) -> Label:
        """A prediction as the truth of unlabelled data."""
        ...

    def predict(self, images: Tensor) -> list[Prediction]:
        """fp32 inference on (n, C, *spatial) in stored units; leaves no trace."""
        ...

    def score(self, prediction: Prediction, label: Label) -> float:
        """How right a prediction is, in [0, 1]: probability of the truth, Dice, or AP of the image."""
        ...

    def succeeded(self, clean: Prediction, adversarial: Prediction, label: Label, goal: Goal = "untruth") -> bool:
        """Whether the attack worked on this sample, by `success_rule`."""
        ...

    def vulnerable(self, clean: Prediction, label: Label, goal: Goal = "untruth") -> bool:
        """Whether there is anything right about the clean answer that an attack could destroy, or whether it is not yet at the goal."""
        ...

    def on(self, module: nn.Module) -> Self:
        """The same task, computed by another module."""
        ...

    def heavy_parts(self) -> list[nn.Module]:
        """The parts that may run in half precision: not the normalisation, not anchors, matching or stitching."""
        ...

    def network_shape(self, shape: Sequence[int]) -> tuple[int, ...]:
        """(C, *spatial) that the network sees of an image of a stored shape: a window of it, where there are windows."""
        ...

    def tensors(self, outputs: Any) -> Iterator[Tensor]:
        """The floating-point tensors in what `forward` returns."""
        ...


def two_halves(outputs: Tensor, n: int) -> tuple[Tensor, Tensor]:
    """Outputs of the first n samples and of the rest."""
    # split, not slices: its gradient is one concatenation instead of two whole tensors of zeros.
    first, rest = outputs.split([n, len(outputs) - n])
    return first, rest


@dataclass(frozen=True)
class Identity:
    """What makes a victim the one it is; public."""

    weights_sha256: str
    program_sha256: str | None
    parameters: int
    """Of one member."""
    members: tuple[str, ...] = ()
    """SHA-256 of the weights of every member, the first included; empty where there is one."""
    code_sha256: str | None = None
    """Of the source of a factory and of what it imports from beside it; None where no factory built the network."""

    @property
    def hashes(self) -> list[str]:
        """Of the weights of every member."""
        return list(self.members) or [self.weights_sha256]

    def facts(self) -> dict[str, Json]:
        """As plans and manifests hold it; members where there are several, and code where some built it."""
        members = {"members": [{"weights_sha256": each} for each in self.members]} if self.members else {}
        code = {} if self.code_sha256 is None else {"code_sha256": self.code_sha256}
        return {
            "weights_sha256": self.weights_sha256,
            "program_sha256": self.program_sha256,
            "parameters": self.parameters,
            **members,
            **code,
        }


@dataclass(frozen=True)
class Victim:
    """A model under attack: who judges, always in fp32, and what the attack differentiates, which may run in another profile."""

    scored: TaskModel
    attacked: Aim
    identity: Identity
    notes: tuple[str, ...] = ()
    """What its source was understood as, a line each, where that was not plain."""
    named: Mapping[str, "Victim"] = field(default_factory=dict)
    """All victims of a corpus of several, by their names, this one too; empty where there is one. See `victims.several.against`."""

    @property
    def task(self) -> str:
        """classification, segmentation or detection."""
        return self.scored.task
