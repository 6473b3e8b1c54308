"""SEA against its parts, put together by hand: APGD on each loss through shrinking balls, and the worst of the four ends for each image."""

from typing import Any

import pytest
import torch
from attack_cases import HU, LEVEL8, images, labels, segmenter, settings
from torch import Tensor, nn

from medadv.attacks.apgd import checkpoint_loss
from medadv.attacks.cost import passes
from medadv.attacks.engine import perturb
from medadv.attacks.problem import Problem
from medadv.attacks.sea import LOSSES, stages
from medadv.spec.attack import OF_MASKS, AttackSettings
from medadv.victims.tasks.segmentation import IGNORE, Segmenter

GRIDS = {2: (14, 13), 3: (8, 7, 6)}
SEEDS = [11, 12, 13]


def case(axes: int, head: str) -> tuple[Segmenter, Tensor, Tensor]:
    """Three images, one without foreground, and voxels to ignore."""
    grid = GRIDS[axes]
    truth = (labels(3, 3, *grid) if head == "softmax" else labels(3, 2, 3, *grid)).to(torch.uint8)
    truth[2] = 0
    truth[..., 0] = IGNORE
    return segmenter(axes, head=head), images(3, 1, *grid), truth


def sea(epsilon: float = 4, **changes: Any) -> AttackSettings:
    return AttackSettings.model_validate({"attack": "sea", "epsilon": epsilon, "steps": 10, **changes})


@pytest.mark.parametrize("changes", [{}, {"weight": 0.5, "stop_gradient": True}, {"random_start": False}], ids=str)
@pytest.mark.parametrize("axes", GRIDS)
@pytest.mark.parametrize("head", ["softmax", "sigmoid"])
def test_it_is_the_worst_of_four_losses_through_shrinking_balls(head: str, axes: int, changes: dict[str, Any]) -> None:
    victim, batch, truth = case(axes, head)
    epsilon, ends = 4, []
    for loss in ("segpgd", "masked_ce", "js", "masked_spherical"):
        delta = None
        for factor, steps in ((2, 3), (1.5, 3), (1, 4)):
            radius = factor * epsilon
            made = AttackSettings.model_validate({"attack": "apgd", "epsilon": radius, "steps": steps, "loss": loss, **changes})
            if delta is None and made.random_start:
                delta = Problem.of(victim, batch, truth, sea(**changes), LEVEL8, None, None).start(SEEDS)
            delta = perturb(victim, batch, truth, made, lattice=LEVEL8, seeds=SEEDS, start=delta)
        ends.append(delta)
    with torch.no_grad():
        standings = [victim.standing(victim.forward(batch + end), truth, sea()) for end in ends]
    expected = torch.stack([
        ends[max(range(4), key=lambda k, i=i: (standings[k][0][i].item(), standings[k][1][i].item()))][i] for i in range(3)
    ])
    found = perturb(victim, batch, truth, sea(**changes), lattice=LEVEL8, seeds=SEEDS)
    assert torch.equal(found, expected)
    assert found.abs().max() == epsilon


def test_steps_and_balls() -> None:
    assert LOSSES == ("segpgd", "masked_ce", "js", "masked_spherical")
    found = list(stages(sea(3, steps=101), "js"))
    assert [(each.attack, each.loss, each.epsilon, each.step, each.steps) for each in found] == [
        ("apgd", "js", 6, 12, 30),
        ("apgd", "js", 4.5, 9, 30),
        ("apgd", "js", 3, 6, 41),
    ]
    assert [(each.epsilon, each.steps) for each in stages(sea(3, steps=1), "js")] == [(3, 1)]


@pytest.mark.parametrize(("epsilon", "lattice"), [(3, LEVEL8), (2.5, LEVEL8), (7, HU)])
def test_nothing_leaves_the_real_ball_the_lattice_or_the_region(epsilon: float, lattice: Any) -> None:
    victim, batch, truth = case(2, "softmax")
    # Values at both ends of the range, where only one direction is open.
    batch = torch.where(batch < 60, lattice.low, torch.where(batch > 190, lattice.high, batch))
    region = torch.zeros_like(batch)
    region[..., 3:9, 2:] = 1
    seen: list[Tensor] = []

    def watch(number: int, delta: Tensor, deviation: Tensor, divergence: Tensor | None) -> None:
        assert number == len(seen)
        seen.append(delta)

    found = perturb(victim, batch, truth, sea(epsilon), lattice=lattice, seeds=SEEDS, region=region, watch=watch)
    assert len(seen) == 40
    for delta in (found, *seen):
        assert delta.abs().max() <= epsilon
        assert not delta[region.expand_as(delta) == 0].any()
        assert lattice.low <= (batch + delta).min() <= (batch + delta).max() <= lattice.high
    assert found.any()


def test_a_sample_alone_gives_the_same_bits() -> None:
    victim, batch, truth = case(2, "softmax")
    together = perturb(victim, batch, truth, sea(), lattice=LEVEL8, seeds=SEEDS)
    alone = perturb(victim, batch[1:2], truth[1:2], sea(), lattice=LEVEL8, seeds=SEEDS[1:2])
    assert torch.equal(together[1:2], alone)


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({}, (4 * 20, 4 * 10)),
        ({"steps": 1}, (4 * 2, 4 * 1)),
        ({"restarts": 2}, (2 * 4 * 20, 2 * 4 * 10)),
        ({"weight": 0.5}, (4 * 30, 4 * 20)),
    ],
)
def test_passes_are_those_that_the_victim_sees(changes: dict[str, Any], expected: tuple[int, int]) -> None:
    (victim, batch, truth), made, seen = case(2, "softmax"), sea(**changes), [0, 0]

    def count(_: nn.Module, inputs: tuple[Tensor], outputs: Tensor) -> None:
        seen[0] += len(inputs[0])
        if outputs.requires_grad:
            outputs.register_hook(lambda g: seen.__setitem__(1, seen[1] + len(g)))

    victim.module.register_forward_hook(count)
    perturb(victim, batch, truth, made, lattice=LEVEL8, seeds=SEEDS)
    assert passes(made) == expected == (seen[0] / 3, seen[1] / 3)


@pytest.mark.parametrize("loss", OF_MASKS)
def test_checkpoints_go_by_one_loss_whatever_is_raised(loss: str) -> None:
    victim, batch, truth = case(2, "softmax")
    made = settings("apgd", loss=loss, weight=0.5)
    problem = Problem.of(victim, batch, truth, made, LEVEL8, None, None)
    delta = problem.start(SEEDS)
    slope = problem.slope(delta, None, 0.4, answered=True)
    with torch.no_grad():
        plain = victim.deviation(victim.forward(batch + delta), truth, settings("pgd"))
    torch.testing.assert_close(checkpoint_loss(problem, slope), plain, rtol=1e-12, atol=0)
    assert not torch.allclose(slope.deviation, plain)
