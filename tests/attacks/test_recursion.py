"""The stabilized recursions against a few lines of PyTorch that share nothing with the engine."""

import numpy as np
import pytest
import torch
from scipy import ndimage
from tests.attacks.attack_cases import LEVEL8, classifier, images, labels, settings
from torch import Tensor
from torch.nn import functional

from medadv.attacks.engine import perturb


def blur(x: Tensor, sigma: float, size: int) -> Tensor:
    offsets = torch.arange(size, dtype=torch.float64) - size // 2
    line = torch.exp(-(offsets**2) / (2 * sigma**2))
    plane = torch.outer(line, line) / line.sum() ** 2
    channels = x.shape[1]
    padded = functional.pad(x, [size // 2] * 4, mode="reflect")
    return functional.conv2d(padded, plane.expand(channels, 1, size, size), groups=channels)


def test_blur_of_this_test_is_scipys() -> None:
    x = images(1, 2, 11, 9)
    expected = ndimage.gaussian_filter(x.numpy(), (0, 0, 1.3, 1.3), mode="mirror", truncate=2 / 1.3)
    assert np.allclose(blur(x, 1.3, 5), expected, rtol=0, atol=1e-10)


@pytest.mark.parametrize("momentum", [0.0, 1.0])
@pytest.mark.parametrize("weight", [0.3, 2.0])
def test_smia(weight: float, momentum: float) -> None:
    """Both branches differentiated: soft target, smoothed perturbation."""
    victim, u, y = classifier(seed=2), images(3, 3, 16, 16), labels(3, 4)
    epsilon, alpha, steps = 6, 2, 6
    delta, carried = torch.zeros_like(u), torch.zeros_like(u)
    for _ in range(steps):
        delta.requires_grad_()
        x = victim.forward(u + delta)
        s = victim.forward((u + blur(delta, 1.3, 5)).clamp(0, 255))
        kl = (s.softmax(1) * (s.log_softmax(1) - x.log_softmax(1))).sum(1)
        (gradient,) = torch.autograd.grad((functional.cross_entropy(x, y, reduction="none") - weight * kl).sum(), delta)
        if momentum:
            carried = momentum * carried + gradient / gradient.abs().mean((1, 2, 3), keepdim=True)
            gradient = carried
        moved = (delta.detach() + alpha * gradient.sign()).clamp(-epsilon, epsilon)
        delta = (u + moved).clamp(0, 255) - u
    changes = {"weight": weight, "sigma": 1.3, "kernel_size": 5, "steps": steps, "step": alpha, "random_start": False, "momentum": momentum}
    found = perturb(victim, u, y, settings("smia", epsilon, **changes), lattice=LEVEL8, seeds=[0] * 3)
    assert torch.equal(found, delta.to(torch.int16))


@pytest.mark.parametrize("weight", [0.2, 0.9])
@pytest.mark.parametrize("seed", range(4))
def test_smia_listing(weight: float, seed: int) -> None:
    """The authors' listing, its slips mended: the last step smoothed, its answer the hard target of the next step."""
    victim, u, y = classifier(classes=10, seed=seed), images(8, 3, 16, 16, seed=seed), labels(8, 10)
    # A step as long as the ball: projection cuts nearly every move, so the example before it must be kept, not computed back.
    epsilon, alpha, steps = 20, 20, 8
    x, target, used = u, None, 0
    for _ in range(steps):
        x = x.detach().requires_grad_()
        logits = victim.forward(x)
        loss = functional.cross_entropy(logits, y, reduction="sum")
        if target is not None:
            loss = loss - weight * functional.cross_entropy(logits, target, reduction="sum")
            used += int((target != y).sum())
        (gradient,) = torch.autograd.grad(loss, x)
        pert = alpha * gradient.sign()
        smoothed = (x.detach() + blur(pert, 1.0, 3)).clamp(0, 255)
        with torch.no_grad():
            target = victim.forward(smoothed).argmax(1)
        x = (u + (x.detach() + pert - u).clamp(-epsilon, epsilon)).clamp(0, 255)
    assert used, "a target that always equals the truth only rescales the loss: this test would see nothing"
    found = perturb(victim, u, y, settings("smia-listing", epsilon, weight=weight, steps=steps, step=alpha), lattice=LEVEL8, seeds=[0] * 8)
    assert torch.equal(found, (x.detach() - u).to(torch.int16))


def test_translation_invariance_smooths_the_gradient() -> None:
    """TI-FGSM: the sign of the smoothed gradient, in one step."""
    victim, u, y = classifier(), images(2, 3, 24, 24, low=20, high=230), labels(2, 4)
    x = u.clone().requires_grad_()
    (gradient,) = torch.autograd.grad(functional.cross_entropy(victim.forward(x), y, reduction="sum"), x)
    expected = 4 * blur(gradient, 3.0, 15).sign()
    found = perturb(victim, u, y, settings("tifgsm", 4, steps=1, step=4), lattice=LEVEL8, seeds=[0, 0])
    assert torch.equal(found, expected.to(torch.int16))
