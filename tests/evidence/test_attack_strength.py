"""The shipped checks: quiet for a plain victim, loud for one that hides its gradient."""

import json
from typing import Any

import numpy as np
import pytest
import torch
from tests.attacks.attack_cases import LEVEL8, images, settings
from tests.conftest import plainly
from torch import Tensor, nn

from medadv.batches.batch import Batch
from medadv.common.record import plain
from medadv.corpus.manifest import Rung
from medadv.evidence.attack_strength import MAX_SAMPLES, sanity
from medadv.victims.inputs.deployed import Logits
from medadv.victims.inputs.normalized import Normalized
from medadv.victims.tasks.classification import Classifier


def linear(scale: float = 0.02, weight_seed: int = 0) -> Classifier:
    """Two classes split by a plane: every claim of the ladders holds by construction."""
    layer = nn.Linear(3 * 8 * 8, 2)
    direction = torch.randn(3 * 8 * 8, generator=torch.Generator().manual_seed(weight_seed))
    with torch.no_grad():
        layer.weight.copy_(torch.stack([direction, -direction]) * scale)
        layer.bias.zero_()
    return Classifier(nn.Sequential(nn.Flatten(), layer), "softmax", 2)


def run(victim: Any, n: int = 12, **changes: Any) -> dict[str, Any]:
    # Grey images with a little noise: none is saturated, so noise and attack have the same room.
    batch = (images(n, 3, 8, 8).float() / 5 + 100).round().numpy().astype(np.uint8)
    with torch.no_grad():
        truth = [p.answer for p in victim.predict(torch.from_numpy(batch).float())]
    attacks = changes.pop("attacks", {"pgd": settings("pgd", 8, step=2, steps=5), "fgsm": settings("fgsm", 8)})
    samples = Batch(torch.from_numpy(batch).float(), truth, [str(i) for i in range(n)], LEVEL8, changes.pop("region", None))
    return sanity(plainly(victim), samples, attacks, seeds=list(range(n)), batch_size=5, **changes)


def test_plain_victim() -> None:
    result = run(linear())
    json.dumps(plain(result))
    assert result.samples == 12
    assert result.attack == "pgd"
    assert result.epsilon_zero_is_identity
    ladder = [rung.success for rung in result.epsilon_ladder]
    assert ladder[0] == 0
    assert ladder == sorted(ladder)
    assert result.huge_epsilon == Rung(epsilon=64, success=1.0)
    assert result.noise.success < result.noise.white_box
    assert result.zero_gradients == 0
    assert result.worst_case.success >= result.noise.white_box
    assert result.transfer is None
    assert not result.warnings


def test_transfer_is_measured_on_the_second_model() -> None:
    same, other = run(linear(), second=linear()), run(linear(), second=linear(weight_seed=1))
    assert same.transfer.success == same.transfer.white_box
    assert other.transfer.success < other.transfer.white_box


class Rounded(nn.Module):
    """Hides its gradient, as a defence by quantisation does."""

    def __init__(self, inner: nn.Module) -> None:
        super().__init__()
        self.inner = inner

    def forward(self, x: Tensor) -> Tensor:
        return self.inner(x.round())


def test_masked_gradients_are_named() -> None:
    plain = linear()
    result = run(Classifier(Rounded(plain.module), "softmax", 2))
    assert result.zero_gradients == 1
    assert any("exactly zero" in text for text in result.warnings)
    assert any("fails on some samples" in text for text in result.warnings)


@pytest.mark.parametrize(("sharpness", "certain"), [(0.0002, False), (50.0, True)])
def test_probabilities_of_0_and_1_are_counted_and_named(sharpness: float, certain: bool) -> None:
    """A softmax of logits some thousand apart is 1 and 0 in single precision: nothing to climb."""
    network = nn.Sequential(linear(sharpness).module, nn.Softmax(1))
    result = run(Classifier(Normalized(nn.Identity(), network, Logits("softmax", binary=False)), "softmax", 2))
    assert result.clamped == (1.0 if certain else 0.0)
    assert any("probabilities are exactly 0 or 1" in text for text in result.warnings) == certain
    assert "clamped" not in plain(run(linear()))


def test_limits() -> None:
    victim = linear()
    assert run(victim, n=40).samples == MAX_SAMPLES
    huge = Batch(torch.zeros(()).expand(1, 3, 4096, 4096), [np.asarray(0)], ["a"], LEVEL8)
    result = sanity(plainly(victim), huge, {"pgd": settings("pgd")}, seeds=[0])
    assert result.samples == 0
    assert result.warnings


@pytest.mark.parametrize("attack", ["fgsm", "smia", "smia-listing"])
def test_every_kind_of_first_attack(attack: str) -> None:
    result = run(linear(), attacks={"first": settings(attack, 8)})
    assert result.attack == "first"
    assert len(result.steps_ladder) == (1 if attack == "fgsm" else 4)


def test_region_is_respected() -> None:
    result = run(linear(), region=torch.zeros(12, 1, 8, 8))
    assert result.huge_epsilon.success == 0
