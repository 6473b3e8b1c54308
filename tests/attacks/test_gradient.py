"""Answers known without another library: closed forms and finite differences."""

from typing import Any

import numpy as np
import pytest
import torch
from tests.attacks.attack_cases import HU, LEVEL8, classifier, images, labels, segmenter, settings
from torch import Tensor, nn

from medadv.attacks.engine import perturb
from medadv.attacks.feasible import random_start
from medadv.attacks.smoothing import axis_kernels, smooth
from medadv.attacks.terms import loss_terms
from medadv.victims.inputs.normalized import Normalized
from medadv.victims.tasks.classification import Classifier


def linear_victim(shape: tuple[int, ...], weight: Tensor) -> Classifier:
    layer = nn.Linear(weight.shape[1], 2, bias=False).double()
    with torch.no_grad():
        layer.weight.copy_(weight)
    return Classifier(Normalized(nn.Identity(), nn.Sequential(nn.Flatten(), layer)), "softmax", 2)


@pytest.mark.parametrize(("attack", "steps"), [("fgsm", 1), ("pgd", 20), ("bim", 20), ("mifgsm", 20)])
@pytest.mark.parametrize("lattice", [LEVEL8, HU])
def test_linear_victim_reaches_its_closed_form_optimum(attack: str, steps: int, lattice: Any) -> None:
    """Two classes: the loss grows with (w_other - w_truth) . x, so the worst example lies on the corner of the feasible box."""
    shape = (2, 1, 6, 5)
    generator = torch.Generator().manual_seed(3)
    weight = torch.randn(2, 30, generator=generator, dtype=torch.float64) * 1e-4
    batch = images(*shape, low=lattice.low, high=lattice.high)
    truth = torch.tensor([0, 1])
    chosen = settings(attack, 5, steps=steps, step=5 if attack == "fgsm" else 1)
    found = perturb(linear_victim(shape, weight), batch, truth, chosen, lattice=lattice, seeds=[1, 2])
    slope = torch.stack([weight[1] - weight[0], weight[0] - weight[1]]).reshape(shape)
    corner = (batch + 5 * slope.sign()).clamp(lattice.low, lattice.high) - batch
    assert torch.equal(found, corner.to(torch.int16))


BRANCHES = [
    {"weight": 0.7},
    {"weight": 0.7, "loss": "dice_ce"},
    {"weight": 0.7, "smooth": "image"},
    {"weight": 0.7, "sigma": 1.5, "kernel_size": 5},
    {"weight": 0.0},
]


@pytest.mark.parametrize("changes", BRANCHES)
@pytest.mark.parametrize("head", ["softmax", "sigmoid"])
@pytest.mark.parametrize("axes", [2, 3])
def test_objective_gradient_equals_finite_differences(changes: dict[str, Any], head: str, axes: int) -> None:
    """Central differences of the whole objective, through both branches."""
    spatial = (7, 6) if axes == 2 else (6, 6, 5)
    victim = segmenter(axes, head=head)
    batch = images(1, 1, *spatial, low=40, high=200)  # inside the range: clipping has no derivative on its edge
    truth = labels(1, 3, *spatial) if head == "softmax" else labels(1, 2, 3, *spatial)
    chosen = settings("smia", 8, **changes)
    kernels = axis_kernels(chosen.sigma, chosen.kernel_size, None, axes)
    delta = torch.randn(1, 1, *spatial, dtype=torch.float64, generator=torch.Generator().manual_seed(1)) * 3

    def value(moved: Tensor) -> Tensor:
        deviation, divergence, _ = loss_terms(victim, batch, moved, truth, chosen, LEVEL8, kernels, None)
        return (deviation if divergence is None else deviation - chosen.weight * divergence).sum()

    assert torch.autograd.gradcheck(value, (delta.requires_grad_(),), eps=1e-4, atol=1e-9, rtol=1e-5)


def test_stopped_branch_is_a_constant() -> None:
    """With stop_gradient the analytic gradient is that of the objective with the smoothed prediction frozen."""
    victim, batch, truth = classifier(), images(2, 3, 8, 8, low=40, high=200), labels(2, 4)
    chosen = settings("smia", 8, weight=0.7, stop_gradient=True)
    kernels = axis_kernels(1.0, 3, None, 2)
    delta = torch.randn(2, 3, 8, 8, dtype=torch.float64, generator=torch.Generator().manual_seed(2)).mul(3).requires_grad_()
    deviation, divergence, _ = loss_terms(victim, batch, delta, truth, chosen, LEVEL8, kernels, None)
    assert divergence is not None
    (gradient,) = torch.autograd.grad((deviation - 0.7 * divergence).sum(), delta)

    with torch.no_grad():
        target = victim.forward((batch + smooth(delta, kernels)).clamp(0, 255)).softmax(1)
    logits = victim.forward(batch + delta)
    loss = nn.functional.cross_entropy(logits, truth, reduction="sum") + 0.7 * (target * logits.log_softmax(1)).sum()
    (expected,) = torch.autograd.grad(loss, delta)
    assert torch.allclose(gradient, expected, rtol=1e-12, atol=1e-15)


@pytest.mark.parametrize("head", ["softmax", "sigmoid"])
def test_stabilization_vanishes_at_zero(head: str) -> None:
    victim, batch = segmenter(2, head=head), images(2, 1, 9, 9)
    truth = labels(2, 3, 9, 9) if head == "softmax" else labels(2, 2, 3, 9, 9)
    delta = torch.zeros_like(batch).requires_grad_()
    _, divergence, _ = loss_terms(victim, batch, delta, truth, settings("smia"), LEVEL8, axis_kernels(1.0, 3, None, 2), None)
    assert divergence is not None
    assert divergence.abs().max() < 1e-15
    (gradient,) = torch.autograd.grad(divergence.sum(), delta)
    assert gradient.abs().max() < 1e-15


def test_weight_zero_is_pgd() -> None:
    victim, batch, truth = classifier(), images(3, 3, 12, 12), labels(3, 4)
    smia = perturb(victim, batch, truth, settings("smia", weight=0, steps=5), lattice=LEVEL8, seeds=[1, 2, 3])
    pgd = perturb(victim, batch, truth, settings("pgd", steps=5), lattice=LEVEL8, seeds=[1, 2, 3])
    assert torch.equal(smia, pgd)


def test_random_start_depends_on_the_seed_alone() -> None:
    first = random_start((1, 64, 64), 4.9, 7)
    torch.manual_seed(0)
    assert torch.equal(first, random_start((1, 64, 64), 4.9, 7))
    assert not torch.equal(first, random_start((1, 64, 64), 4.9, 8))
    # Uniform over the nine integers: expected 455 of each, standard deviation 20.
    values, counts = np.unique(first.numpy(), return_counts=True)
    assert values.tolist() == list(range(-4, 5))
    assert np.abs(counts - 4096 / 9).max() < 5 * 20.2
