"""Input diversity: torch's own resizing and padding, torchattacks on the same draws, and draws that belong to the sample alone."""

from typing import Any

import pytest
import torch
from tests.attacks.attack_cases import HU, LEVEL8, classifier, images, labels, segmenter, settings
from tests.attacks.test_references import EPSILON, STEPS, UnitRange
from torch import Tensor, nn
from torch.nn import functional

from medadv.attacks.diversity import SMALLEST, Placing, draw_placings, place, placed_back
from medadv.attacks.engine import perturb
from medadv.attacks.feasible import restart_seed
from medadv.datasets.labels import Boxes
from medadv.victims.inputs.normalized import Normalized
from medadv.victims.inputs.steps import InputSteps
from medadv.victims.tasks.answer import LINEAR
from medadv.victims.tasks.detection import Detector
from medadv.victims.tasks.detection_monai import MonaiDetector
from medadv_transforms.normalize import Window
from medadv_transforms.units import Lattice

PLACINGS = [
    Placing((20, 24), (18, 22), (1, 0)),
    Placing((20, 24), (19, 23), (0, 1)),
    Placing((20, 24), (20, 24), (0, 0)),
    Placing((10, 12, 9), (9, 11, 8), (0, 1, 1)),
    Placing((30, 12, 1), (27, 10, 1), (2, 1, 0)),
]


def torchs(image: Tensor, p: Placing, outside: float) -> Tensor:
    shrunk = functional.interpolate(image[None], list(p.lengths), mode=LINEAR[len(p.grid)], align_corners=False)
    sides = [(o, full - length - o) for full, length, o in zip(p.grid, p.lengths, p.offsets, strict=True)]
    return functional.pad(shrunk, [side for pair in reversed(sides) for side in pair], value=outside)[0]


def torchs_back(answer: Tensor, p: Placing) -> Tensor:
    inner = answer[(slice(None), *(slice(o, o + length) for o, length in zip(p.offsets, p.lengths, strict=True)))]
    return functional.interpolate(inner[None], list(p.grid), mode=LINEAR[len(p.grid)], align_corners=False)[0]


def with_gradient(function: Any, x: Tensor, *given: Any) -> tuple[Tensor, Tensor]:
    leaf = x.clone().requires_grad_()
    value = function(leaf, *given)
    value.backward(torch.linspace(-1, 1, value.numel(), dtype=value.dtype).reshape(value.shape))
    assert leaf.grad is not None
    return value.detach(), leaf.grad


@pytest.mark.parametrize("p", PLACINGS, ids=str)
def test_shrinking_padding_and_the_way_back_are_torchs(p: Placing) -> None:
    x = images(2, *p.grid)
    for found, expected in zip(with_gradient(p.there, x, -1024.0), with_gradient(torchs, x, p, -1024.0), strict=True):
        torch.testing.assert_close(found, expected, rtol=1e-10, atol=1e-10)
    for found, expected in zip(with_gradient(p.back, x), with_gradient(torchs_back, x, p), strict=True):
        torch.testing.assert_close(found, expected, rtol=1e-10, atol=1e-10)


def test_what_fills_the_grid_is_left_as_it_is() -> None:
    whole, x = Placing((7, 9), (7, 9), (0, 0)), images(2, 3, 7, 9, dtype=torch.float32)
    assert torch.equal(place(x, [whole, None], 0), x)
    assert torch.equal(placed_back(x, [whole, None]), x)


def test_draws_are_those_of_the_paper() -> None:
    grid, drawn = (40, 25, 1), draw_placings((40, 25, 1), 4000, 0.5, 7)
    moved = [p for p in drawn if p is not None]
    assert len(moved) == pytest.approx(2000, abs=120)
    for axis, full in enumerate(grid):
        lengths = {p.lengths[axis] for p in moved}
        assert lengths == set(range(max(1, int(SMALLEST * full)), max(2, full)))
        offsets = {(p.lengths[axis], p.offsets[axis]) for p in moved}
        assert offsets == {(length, o) for length in lengths for o in range(max(1, full - length))}
    # One factor for all axes: of 22 to 24 voxels and of 36 to 39, the least go together and the most do.
    assert {p.lengths[0] for p in moved if p.lengths[1] == 22} == {36, 37}
    assert {p.lengths[0] for p in moved if p.lengths[1] == 24} == {38, 39}
    assert draw_placings(grid, 5, 0, 7) == [None] * 5
    assert None not in draw_placings(grid, 200, 1, 7)
    assert draw_placings(grid, 5, 1, 7) != draw_placings(grid, 5, 1, 8)
    assert draw_placings(grid, 9, 1, 7)[:5] == draw_placings(grid, 5, 1, 7)


@pytest.mark.parametrize("decay", [0.0, 1.0])
def test_classification_equals_torchattacks_on_the_same_draws(decay: float, monkeypatch: pytest.MonkeyPatch) -> None:
    import torchattacks

    side, probability = 24, 0.7
    victim, batch, truth, seeds = classifier(), images(3, 3, side, side), labels(3, 4), [5, 6, 7]
    made = settings("difgsm", EPSILON, steps=STEPS, diversity=probability, momentum=decay)
    found = perturb(victim, batch, truth, made, lattice=LEVEL8, seeds=seeds)
    model = UnitRange(victim.module).eval()
    for i, seed in enumerate(seeds):
        drawn = draw_placings((side, side), STEPS, probability, seed)
        assert None in drawn
        # In the order in which DIFGSM asks: the side, where it begins in both axes, and whether it happens at all.
        numbers = [(p.lengths[0], *p.offsets) if p else (side - 1, 0, 0) for p in drawn]
        whole = iter([value for triple in numbers for value in triple])
        coins = iter([0.0 if p else 1.0 for p in drawn])
        with monkeypatch.context() as patched:
            patched.setattr(torch, "randint", lambda *_, whole=whole, **__: torch.tensor([next(whole)]))
            patched.setattr(torch, "rand", lambda *_, coins=coins, **__: torch.tensor([next(coins)]))
            attack = torchattacks.DIFGSM(
                model, EPSILON / 255, 1 / 255, STEPS, decay=decay, resize_rate=SMALLEST, diversity_prob=probability, random_start=False
            )
            theirs = ((attack(batch[i : i + 1] / 255, truth[i : i + 1]) - batch[i : i + 1] / 255) * 255).round().to(torch.int16)
        assert next(whole, None) is None
        assert torch.equal(found[i : i + 1], theirs)
    plain = perturb(victim, batch, truth, settings("bim", EPSILON, steps=STEPS), lattice=LEVEL8, seeds=seeds)
    assert not torch.equal(found, plain)


@pytest.mark.parametrize("head", ["softmax", "sigmoid"])
@pytest.mark.parametrize(("lattice", "grid"), [(LEVEL8, (18, 22)), (HU, (11, 12, 9))], ids=["2D", "3D"])
def test_masks_meet_their_truth_on_the_images_grid(lattice: Lattice, grid: tuple[int, ...], head: str) -> None:
    """A loop of its own, with torch's resizing there and back."""
    batch = images(2, 1, *grid, low=lattice.low, high=lattice.high)
    truth = labels(2, 3, *grid) if head == "softmax" else labels(2, 2, 3, *grid)
    victim, seeds = segmenter(len(grid), head=head), [3, 4]
    drawn = [draw_placings(grid, STEPS, 1, seed) for seed in seeds]
    delta = torch.zeros_like(batch)
    for step in range(STEPS):
        leaf = delta.clone().requires_grad_()
        answers = []
        for i, each in enumerate(drawn):
            p = each[step]
            assert p is not None
            answers.append(torchs_back(victim.forward(torchs((batch + leaf)[i], p, lattice.low)[None])[0], p))
        victim.deviation(torch.stack(answers), truth, settings("pgd")).sum().backward()
        assert leaf.grad is not None
        delta = (delta + leaf.grad.sign()).clamp(-EPSILON, EPSILON).clamp(lattice.low - batch, lattice.high - batch)
    made = settings("difgsm", EPSILON, steps=STEPS, diversity=1.0)
    assert torch.equal(perturb(victim, batch, truth, made, lattice=lattice, seeds=seeds), delta.to(torch.int16))


@pytest.mark.parametrize("attack", ["difgsm", "smia"])
@pytest.mark.parametrize("dense", [False, True], ids=["classes", "masks"])
def test_a_sample_alone_and_another_global_generator_give_the_same_bits(dense: bool, attack: str) -> None:
    victim: Any = segmenter(2) if dense else classifier()
    batch, truth = images(3, 1 if dense else 3, 20, 20), labels(3, 3, 20, 20) if dense else labels(3, 4)
    made = settings(attack, 6, steps=5, diversity=0.7, random_start=True)
    torch.manual_seed(1)
    together = perturb(victim, batch, truth, made, lattice=LEVEL8, seeds=[1, 2, 3])
    torch.manual_seed(2)
    alone = perturb(victim, batch[1:2], truth[1:2], made, lattice=LEVEL8, seeds=[2])
    assert torch.equal(together[1:2], alone)
    other = perturb(victim, batch[1:2], truth[1:2], made, lattice=LEVEL8, seeds=[9])
    assert not torch.equal(alone, other)


def test_further_restarts_draw_anew() -> None:
    grid = (20, 20)
    assert draw_placings(grid, 5, 1, restart_seed(3, 0)) != draw_placings(grid, 5, 1, restart_seed(3, 1))


@pytest.mark.parametrize("stop", [False, True])
def test_both_branches_are_seen_alike(stop: bool) -> None:
    """Without a perturbation the smoothed example is the example, and both stay one where the network sees them."""
    victim, seen = segmenter(2), []
    victim.module.register_forward_hook(lambda _, given, __: seen.extend(given[0].detach()))
    divergences: list[Tensor] = []
    made = settings("smia", steps=1, random_start=False, diversity=1.0, stop_gradient=stop)
    batch = images(2, 1, 20, 20)

    def watch(_: int, __: Tensor, ___: Tensor, divergence: Tensor | None) -> None:
        assert divergence is not None
        divergences.append(divergence)

    perturb(victim, batch, labels(2, 3, 20, 20), made, lattice=LEVEL8, seeds=[1, 2], watch=watch)
    assert torch.equal(torch.stack(seen[:2]), torch.stack(seen[2:]))
    assert not torch.equal(seen[0], batch[0])
    assert divergences[0].abs().max() < 1e-15


class Axes(nn.Module):
    """As much of a detector as its boxes ask for."""

    def __init__(self, spatial_dims: int) -> None:
        super().__init__()
        self.spatial_dims = spatial_dims


@pytest.mark.parametrize("steps", [False, True])
@pytest.mark.parametrize(
    ("monai", "axes", "x_first"), [(False, 2, True), (False, 2, False), (True, 2, True), (True, 2, False), (True, 3, True)]
)
def test_boxes_move_with_what_they_hold(monai: bool, axes: int, x_first: bool, steps: bool) -> None:
    """x_first: whether x is the first axis of the stored tensor, as in volumes and their slices, or the last, as in pictures."""
    grid = (60, 80, 50)[:axes]
    low, high = (10, 40, 12)[:axes], (30, 72, 20)[:axes]
    image = torch.zeros(1, 1, *grid)
    image[(0, 0, *(slice(a, b) for a, b in zip(low, high, strict=True)))] = 200
    order = slice(None) if x_first else slice(None, None, -1)
    label = Boxes.of([[*low[order], *high[order]]], [1], dims=axes)
    module = Normalized(InputSteps([]) if steps else Window(0, 255), Axes(axes))
    victim = (MonaiDetector if monai else Detector)(module, 2, 0.5, reverse=x_first != monai)
    p = Placing(grid, (54, 72, 46)[:axes], (5, 1, 3)[:axes])
    targets = victim.targets([label], torch.device("cpu"))
    _, (moved,) = victim.meet(None, targets, [p])
    held = (place(image, [p], 0)[0, 0] > 100).nonzero()
    expected = [*held.amin(0).tolist(), *(held.amax(0) + 1).tolist()]
    boxes = moved["boxes"][0].tolist()
    # A detector's own order until steps move its boxes: the tensor's for MONAI, the other for torchvision. Then x first.
    as_tensor = x_first if steps else monai
    ordered = boxes if as_tensor else [*boxes[:axes][::-1], *boxes[axes:][::-1]]
    assert ordered == pytest.approx(expected, abs=0.51)
    assert torch.equal(targets[0]["boxes"], victim.targets([label], torch.device("cpu"))[0]["boxes"])
