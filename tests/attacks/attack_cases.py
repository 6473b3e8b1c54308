"""Small victims and batches in fp64, with answers that two implementations can be held to."""

from typing import Any

import torch
from torch import Tensor, nn

from medadv.spec.attack import NAMED, AttackSettings
from medadv.victims.inputs.normalized import Normalized
from medadv.victims.tasks.classification import Classifier
from medadv.victims.tasks.segmentation import Segmenter
from medadv_transforms.normalize import Normalize
from medadv_transforms.units import LATTICES

LEVEL8 = LATTICES["level8"]
HU = LATTICES["hu"]
MASKS_ALONE = {"segpgd", "cospgd", "sea"}
"""Attacks on masks and nothing else."""
ALONE = sorted(set(NAMED) - {"ensemble", "universal"})
"""Attacks that move images; an ensemble chooses among the ends of others, and what is universal is fitted to many."""


def settings(attack: str, epsilon: float = 4, **changes: Any) -> AttackSettings:
    """Resolved as a spec would be; a step of 1 unless given."""
    fixed = {} if attack == "fgsm" else {"step": 1}
    return AttackSettings.model_validate({"attack": attack, "epsilon": epsilon, **fixed, **changes})


def images(*shape: int, seed: int = 0, low: int = 0, high: int = 255, dtype: torch.dtype = torch.float64) -> Tensor:
    """Integers of the lattice, the range's ends among them."""
    drawn = torch.randint(low, high + 1, shape, generator=torch.Generator().manual_seed(seed)).to(dtype)
    drawn.view(-1)[:2] = torch.tensor([low, high], dtype=dtype)
    return drawn


def _normalized(network: nn.Module, channels: int) -> Normalized:
    # Double before registering: 0.45 in float32 and in float64 are two numbers.
    return Normalized(Normalize([0.5] * channels, [0.25] * channels), network).double().eval()


def classifier(channels: int = 3, classes: int = 4, head: str = "softmax", seed: int = 0) -> Classifier:
    """Two convolutions with batch-norm and dropout, in evaluation mode, for any 2D size."""
    torch.manual_seed(seed)
    network = nn.Sequential(
        nn.Conv2d(channels, 8, 3, padding=1),
        nn.BatchNorm2d(8),
        nn.SiLU(),
        nn.Dropout(0.5),
        nn.Conv2d(8, 8, 3, stride=2, padding=1),
        nn.SiLU(),
        nn.AdaptiveAvgPool2d(4),
        nn.Flatten(),
        nn.Linear(128, classes),
    )
    return Classifier(_normalized(network, channels), head, classes)


def segmenter(axes: int, channels: int = 1, classes: int = 3, head: str = "softmax", seed: int = 0) -> Segmenter:
    """Two convolutions that keep the grid."""
    torch.manual_seed(seed)
    convolution = nn.Conv2d if axes == 2 else nn.Conv3d
    network = nn.Sequential(
        convolution(channels, 6, 3, padding=1),
        nn.Softplus(),
        convolution(6, classes, 3, padding=1),
    )
    return Segmenter(_normalized(network, channels), head, classes, axes)


def labels(n: int, classes: int, *spatial: int, seed: int = 5) -> Tensor:
    """(n, *spatial) int64."""
    return torch.randint(0, classes, (n, *spatial), generator=torch.Generator().manual_seed(seed))
