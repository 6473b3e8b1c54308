"""Losses of masks against their papers' formulas, written out here over one-hot truths, in fp64 and with their gradients.

A label of a sigmoid head is held to the formula of two classes with logits 0 and z.
"""

from collections.abc import Callable

import pytest
import torch
from tests.attacks.attack_cases import LEVEL8, classifier, images, labels, segmenter, settings
from torch import Tensor, nn
from torch.nn import functional

from medadv.attacks.engine import perturb
from medadv.spec.attack import OF_MASKS, AttackSettings
from medadv.victims.inputs.normalized import Normalized
from medadv.victims.tasks import divergence, pixel_losses
from medadv.victims.tasks.detection import Detector
from medadv.victims.tasks.detection_monai import MonaiDetector
from medadv.victims.tasks.segmentation import IGNORE, Segmenter
from medadv_transforms.normalize import Window

GRIDS = [(6, 7), (5, 4, 3)]
Formula = Callable[[Tensor, Tensor, float], Tensor]
"""Logits (n, K, ...), one-hot truth of that shape, share of steps done; to (n, ...)."""


def logits(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, dtype=torch.float64, generator=torch.Generator().manual_seed(seed)) * 2


def truth(head: str, classes: int, *spatial: int) -> Tensor:
    """Of two samples, with voxels to ignore."""
    drawn = (labels(2, classes, *spatial) if head == "softmax" else labels(2, 2, classes, *spatial)).to(torch.uint8)
    drawn[0, ..., 0] = IGNORE
    drawn[1, ..., 1, 1] = IGNORE
    return drawn


def ce(u: Tensor, y: Tensor, _: float = 0) -> Tensor:
    return (u.logsumexp(1, keepdim=True) * y - u * y).sum(1)


def right(u: Tensor, y: Tensor) -> Tensor:
    return (u.detach().argmax(1) == y.argmax(1)).double()


def segpgd(u: Tensor, y: Tensor, done: float) -> Tensor:
    """(1 - lambda) of what is right, lambda of what is wrong; lambda = (t - 1) / 2T at the step t of T."""
    lam = done / 2
    return (1 - lam) * right(u, y) * ce(u, y) + lam * (1 - right(u, y)) * ce(u, y)


def cospgd(u: Tensor, y: Tensor, _: float) -> Tensor:
    return functional.cosine_similarity(u.softmax(1), y, dim=1).detach() * ce(u, y)


def masked_ce(u: Tensor, y: Tensor, _: float) -> Tensor:
    return right(u, y) * ce(u, y)


def js(u: Tensor, y: Tensor, _: float) -> Tensor:
    p = u.softmax(1)
    m = (p + y) / 2
    return ((p * (p / m).log()).sum(1) + (torch.xlogy(y, y) - torch.xlogy(y, m)).sum(1)) / 2


def masked_spherical(u: Tensor, y: Tensor, _: float) -> Tensor:
    return -right(u, y) * (u * y).sum(1) / (u * u).sum(1).sqrt()


FORMULAS: dict[str, Formula] = {
    "ce": ce,
    "segpgd": segpgd,
    "cospgd": cospgd,
    "masked_ce": masked_ce,
    "js": js,
    "masked_spherical": masked_spherical,
}


def by_formula(name: str, head: str, u: Tensor, mask: Tensor, done: float) -> Tensor:
    """The mean over what is not ignored, (n,)."""
    valid, known = mask != IGNORE, torch.where(mask == IGNORE, 0, mask).long()
    if head == "softmax":
        values = FORMULAS[name](u, functional.one_hot(known, u.shape[1]).movedim(-1, 1).double(), done)
    elif name == "masked_spherical":
        values = -(2 * known - 1) * u * ((u > 0) == (known == 1))
    else:
        pairs, halves = torch.stack([torch.zeros_like(u), u], 1), torch.stack([1 - known, known], 1).double()
        values = FORMULAS[name](pairs, halves, done)
    return torch.stack([value[chosen].mean() for value, chosen in zip(values, valid, strict=True)])


def ours(name: str, head: str, u: Tensor, mask: Tensor, done: float) -> Tensor:
    victim = Segmenter(nn.Identity(), head, u.shape[1], u.ndim - 2)
    return victim.deviation(u, mask, settings("pgd", loss=name), done)


def with_gradient(function: Callable[..., Tensor], name: str, head: str, u: Tensor, mask: Tensor, done: float) -> tuple[Tensor, Tensor]:
    leaf = u.clone().requires_grad_()
    value = function(name, head, leaf, mask, done)
    # Weights that differ, so that no sample's gradient is taken for another's.
    (value * torch.tensor([1.0, 3.0], dtype=value.dtype)).sum().backward()
    assert leaf.grad is not None
    return value.detach(), leaf.grad


@pytest.mark.parametrize("done", [0.0, 0.3, 1.0])
@pytest.mark.parametrize("grid", GRIDS, ids=str)
@pytest.mark.parametrize("head", ["softmax", "sigmoid"])
@pytest.mark.parametrize("name", FORMULAS)
def test_values_and_gradients_are_those_of_the_formula(name: str, head: str, grid: tuple[int, ...], done: float) -> None:
    u, mask = logits(2, 4, *grid), truth(head, 4, *grid)
    pairs = (with_gradient(function, name, head, u, mask, done) for function in (ours, by_formula))
    for found, expected in zip(*pairs, strict=True):
        torch.testing.assert_close(found, expected, rtol=1e-10, atol=1e-14)


@pytest.mark.parametrize("head", ["softmax", "sigmoid"])
@pytest.mark.parametrize("name", FORMULAS)
def test_what_is_ignored_counts_nowhere(name: str, head: str) -> None:
    u, mask = logits(2, 3, *GRIDS[0]), truth(head, 3, *GRIDS[0])
    ignored = (mask == IGNORE).unsqueeze(1).expand_as(u) if head == "softmax" else mask == IGNORE
    value, gradient = with_gradient(ours, name, head, u, mask, 0.5)
    other, _ = with_gradient(ours, name, head, torch.where(ignored, logits(*u.shape, seed=9), u), mask, 0.5)
    assert torch.equal(value, other)
    assert not gradient[ignored].any()
    assert gradient[~ignored].any()


@pytest.mark.parametrize("head", ["softmax", "sigmoid"])
@pytest.mark.parametrize("name", OF_MASKS)
def test_slab_by_slab_is_the_same(name: str, head: str, monkeypatch: pytest.MonkeyPatch) -> None:
    u, mask = logits(2, 3, 5, 4, 7), truth(head, 3, 5, 4, 7)
    whole = with_gradient(ours, name, head, u, mask, 0.4)
    monkeypatch.setattr(divergence, "SLAB_VALUES", 2 * 3 * 5 * 4 * 2)
    for found, expected in zip(with_gradient(ours, name, head, u, mask, 0.4), whole, strict=True):
        torch.testing.assert_close(found, expected, rtol=1e-12, atol=1e-15)


@pytest.mark.parametrize("head", ["softmax", "sigmoid"])
@pytest.mark.parametrize("name", OF_MASKS)
def test_sure_answers_and_none_at_all_stay_finite(name: str, head: str) -> None:
    u = torch.tensor([[200.0, -200.0, 0.0], [-200.0, 200.0, 0.0]]).repeat(2, 1, 1)
    mask = torch.tensor([[0, 0, 1], [1, 1, 0]] if head == "softmax" else [[[0, 0, 1], [1, 0, 0]]] * 2, dtype=torch.uint8)
    for found in with_gradient(ours, name, head, u, mask, 0.5):
        assert torch.isfinite(found).all()


@pytest.mark.parametrize("head", ["softmax", "sigmoid"])
@pytest.mark.parametrize("axes", [2, 3])
def test_segpgd_is_its_algorithm(axes: int, head: str) -> None:
    """Gu et al., in levels: T steps of sign gradients, lambda = (t - 1) / 2T at the step t."""
    grid, steps, epsilon = GRIDS[axes - 2], 6, 4
    victim, batch, mask = segmenter(axes, head=head), images(2, 1, *grid), truth(head, 3, *grid)
    x = batch.clone()
    for t in range(1, steps + 1):
        leaf = x.clone().requires_grad_()
        by_formula("segpgd", head, victim.forward(leaf), mask, (t - 1) / steps).sum().backward()
        assert leaf.grad is not None
        x = (x + leaf.grad.sign()).clamp(batch - epsilon, batch + epsilon).clamp(0, 255)
    made = settings("segpgd", epsilon, steps=steps, random_start=False, keep="last")
    found = perturb(victim, batch, mask, made, lattice=LEVEL8, seeds=[0, 0])
    assert torch.equal(batch + found, x)
    plain = perturb(victim, batch, mask, settings("pgd", epsilon, steps=steps, random_start=False), lattice=LEVEL8, seeds=[0, 0])
    assert not torch.equal(found, plain), "the weighting says nothing here"


@pytest.mark.parametrize("name", ["segpgd", "cospgd", "masked_ce"])
def test_with_a_weighting_of_one_it_is_pgd(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    def ones(outputs: Tensor, targets: Tensor, head: str, progress: float) -> Tensor:
        return torch.ones_like(targets, dtype=outputs.dtype)

    monkeypatch.setitem(pixel_losses.LOSSES, name, (pixel_losses.cross_entropy, ones))
    victim, batch, mask = segmenter(2), images(2, 1, *GRIDS[0]), truth("softmax", 3, *GRIDS[0])
    found, plain = (perturb(victim, batch, mask, settings("pgd", loss=loss), lattice=LEVEL8, seeds=[1, 2]) for loss in (name, "ce"))
    assert torch.equal(found, plain)


def towards(name: str, u: Tensor, y: Tensor, done: float) -> Tensor:
    """The published forms with a target, negated: an attack raises them."""
    there, lam = right(u, y), done / 2
    values = {
        "ce": ce(u, y),
        "segpgd": (lam * there + (1 - lam) * (1 - there)) * ce(u, y),
        "cospgd": (1 - functional.cosine_similarity(u.softmax(1), y, dim=1).detach()) * ce(u, y),
        "masked_ce": (1 - there) * ce(u, y),
        "js": js(u, y, done),
        "masked_spherical": -(1 - there) * (u * y).sum(1) / (u * u).sum(1).sqrt(),
    }
    return -values[name].flatten(1).mean(1)


@pytest.mark.parametrize("name", FORMULAS)
def test_a_goal_that_is_gone_towards_counts_what_is_not_there_yet(name: str) -> None:
    u, victim = logits(2, 3, *GRIDS[0]), Segmenter(nn.Identity(), "softmax", 3, 2)
    mask = victim.targets([each.numpy() for each in labels(2, 3, *GRIDS[0]).to(torch.uint8)], torch.device("cpu"), "vanish")
    wanted = functional.one_hot(mask.long(), 3).movedim(-1, 1).double()
    found, expected = u.clone().requires_grad_(), u.clone().requires_grad_()
    value = victim.deviation(found, mask, settings("pgd", loss=name, goal="vanish"), 0.4)
    value.sum().backward()
    other = towards(name, expected, wanted, 0.4)
    other.sum().backward()
    torch.testing.assert_close(value, other, rtol=1e-10, atol=1e-14)
    torch.testing.assert_close(found.grad, expected.grad, rtol=1e-10, atol=1e-14)


@pytest.mark.parametrize("attack", [{"attack": "sea", "epsilon": 4, "steps": 1}, {"attack": "pgd", "epsilon": 4, "loss": "js"}], ids=str)
def test_who_answers_no_masks_has_none_of_these_losses(attack: dict[str, object]) -> None:
    made = AttackSettings.model_validate(attack)
    with pytest.raises(ValueError, match="masks alone have it"):
        perturb(classifier(), images(2, 3, 8, 8), labels(2, 4), made, lattice=LEVEL8, seeds=[1, 2])
    module = Normalized(Window(0, 255), nn.Identity())
    for detector in (Detector(module, 2, 0.5), MonaiDetector(module, 2, 0.5)):
        with pytest.raises(ValueError, match="a detector has its own"):
            detector.deviation(None, [], settings("pgd", loss="js"))


def test_cospgd_is_what_it_says_of_itself() -> None:
    made = settings("cospgd")
    assert (made.loss, made.keep, made.random_start) == ("cospgd", "best", True)
    victim, batch, mask = segmenter(2), images(2, 1, *GRIDS[0]), truth("softmax", 3, *GRIDS[0])
    chosen = settings("pgd", loss="cospgd", keep="best")
    assert torch.equal(*(perturb(victim, batch, mask, one, lattice=LEVEL8, seeds=[1, 2]) for one in (made, chosen)))
