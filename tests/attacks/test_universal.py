"""One perturbation for many images: by hand on linear victims, in the bounds of each image, without reading anything back."""

from dataclasses import dataclass, field
from typing import Any

import pytest
import torch
from attack_cases import LEVEL8, classifier, images, labels
from device_guard import DeviceOnly, on_meta
from torch import Tensor, nn

from medadv.attacks import universal
from medadv.attacks.cost import fitting_passes, passes
from medadv.attacks.engine import perturb
from medadv.attacks.problem import Problem
from medadv.spec.attack import AttackSettings

GRID = (1, 6, 6)


def settings(epsilon: float = 4, **changes: Any) -> AttackSettings:
    return AttackSettings.model_validate({"attack": "universal", "fit": {"split": "train"}, "epsilon": epsilon, "step": 1, **changes})


@dataclass(frozen=True)
class Linear:
    """A loss that is `weights` of each sample times its image, plus an offset of the sample."""

    weights: Tensor
    offsets: Tensor
    module: nn.Module = field(default_factory=nn.Identity)

    def forward(self, batch: Tensor) -> Tensor:
        return (batch * self.weights).flatten(1).sum(1) + self.offsets

    def deviation(self, outputs: Tensor, *_: Any) -> Tensor:
        return outputs


def problem(victim: Any, batch: Tensor, chosen: AttackSettings, region: Tensor | None = None, targets: Any = None) -> Problem:
    return Problem.of(victim, batch, targets, chosen, LEVEL8, region, None)


def drawn(count: int, seed: int = 0) -> Tensor:
    return torch.randn(count, *GRID, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def climbed(victim: Any, batch: Tensor, chosen: AttackSettings, region: Tensor | None = None) -> Tensor:
    delta = universal.first(tuple(batch.shape[1:]), chosen, 3).to(batch)
    for number in range(chosen.steps):
        delta = universal.step(problem(victim, batch, chosen, region), delta, region, number / chosen.steps)
    return delta


@pytest.mark.parametrize("random_start", [False, True])
def test_a_linear_victim_gives_epsilon_times_the_sign_of_the_summed_gradient(random_start: bool) -> None:
    weights, batch = drawn(5), torch.full((5, *GRID), 128.0, dtype=torch.float64)
    chosen = settings(4, steps=8, loss_bound=1e9, random_start=random_start)
    delta = climbed(Linear(weights, torch.zeros(5, dtype=torch.float64)), batch, chosen)
    assert torch.equal(delta, 4 * weights.sum(0).sign())
    # Of no single image is it the best: that is what makes it universal.
    assert all((4 * each.sign() != delta).any() for each in weights)


def test_a_sample_whose_loss_is_over_the_bound_says_nothing() -> None:
    """The second image alone would turn every sign: its weights are the negative, ten times."""
    one = drawn(1)
    weights, batch = torch.cat([one, -10 * one]), torch.full((2, *GRID), 128.0, dtype=torch.float64)
    ends = (weights * batch).flatten(1).sum(1)
    victim = Linear(weights, torch.tensor([0.0, 1e4], dtype=torch.float64) - ends)
    assert torch.equal(climbed(victim, batch, settings(4, steps=4, loss_bound=1e3)), 4 * one[0].sign())
    assert torch.equal(climbed(victim, batch, settings(4, steps=4, loss_bound=1e9)), -4 * one[0].sign())


def test_the_default_bound_is_that_of_the_paper_and_a_step_a_tenth_of_the_ball() -> None:
    chosen = AttackSettings.model_validate({"attack": "universal", "fit": {"split": "train"}, "epsilon": 40})
    assert (chosen.loss_bound, chosen.step) == (9.0, 4.0)


def test_where_an_image_cannot_move_it_has_no_say() -> None:
    """The first image is white: what would brighten it counts only once it was darkened. Outside its region the second says nothing."""
    weights = torch.stack([torch.full(GRID, 3.0), torch.full(GRID, -1.0)]).double()
    batch = torch.stack([torch.full(GRID, 255.0), torch.full(GRID, 128.0)]).double()
    victim, chosen = Linear(weights, torch.zeros(2, dtype=torch.float64)), settings(4, steps=5, loss_bound=1e9)
    assert torch.equal(climbed(victim, batch, chosen), torch.full(GRID, -1.0).double())
    region = torch.ones(2, 1, *GRID[1:])
    region[1, 0, :3] = 0
    delta = climbed(victim, batch, chosen, region)
    assert not delta[0, :3].any()
    assert (delta[0, 3:] == -1).all()


@pytest.mark.parametrize("epsilon", [3, 2.5])
def test_each_image_is_given_it_inside_its_own_bounds(epsilon: float) -> None:
    batch, region = images(4, 3, 8, 8), torch.ones(4, 1, 8, 8)
    region[:, :, :2] = 0
    one = universal.finished(images(3, 8, 8, seed=1, low=-9, high=9), epsilon)
    assert one.abs().max() == int(epsilon)
    found = universal.laid_on(one, batch, settings(epsilon), LEVEL8, region)
    wanted = (batch + one).clamp(0, 255) - batch
    wanted[:, :, :2] = 0
    assert torch.equal(found, wanted.to(torch.int16))


def test_nothing_is_read_back_from_the_device() -> None:
    victim, batch, truth = classifier(), images(2, 3, 16, 16), labels(2, 4)
    chosen = settings(4, weight=0.5, gradient_sigma=1.0, gradient_kernel_size=3)
    victim.module.to("meta")
    batch, truth, region, delta = on_meta((batch, truth, torch.ones(2, 1, 16, 16), universal.first((3, 16, 16), chosen, 0).double()))
    whole = problem(victim, batch, chosen, region, truth)
    victim.forward(batch)
    with DeviceOnly() as guard:
        found = universal.step(whole, delta, region, 0.0)
    assert (found.shape, found.device.type) == ((3, 16, 16), "meta")
    assert guard.seen > 20


def test_passes_are_paid_once_by_what_is_fitted() -> None:
    chosen = settings(4, steps=7, weight=0.5)
    assert passes(chosen) == (0, 0)
    assert fitting_passes(chosen) == (14, 14)
    assert fitting_passes(settings(4, steps=7)) == (7, 7)


def test_no_batch_is_attacked_by_it_alone() -> None:
    with pytest.raises(ValueError, match="fitted to many images"):
        perturb(classifier(), images(2, 3, 16, 16), labels(2, 4), settings(), lattice=LEVEL8, seeds=[1, 2])


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"fit": None}, "name their split"),
        ({"momentum": 1.0}, "momentum=1.0: means nothing to a universal perturbation"),
        ({"keep": "best"}, "keep=best"),
        ({"restarts": 2, "random_start": True}, "restarts=2"),
        ({"start": "other"}, "start=other"),
        ({"weight": 0.5, "sigma_unit": "mm"}, "sigma_unit=mm"),
        ({"weight": 0.5, "smooth": "last_step", "stop_gradient": True}, "smooth: last_step"),
        ({"attack": "pgd"}, "fit belongs to attack: universal"),
        ({"attack": "pgd", "fit": None, "loss_bound": 3.0}, "loss_bound belongs to attack: universal"),
    ],
)
def test_settings_that_mean_nothing_are_refused(changes: dict[str, Any], said: str) -> None:
    with pytest.raises(ValueError, match=said):
        settings(4, **changes)


def test_it_is_no_member_of_an_ensemble() -> None:
    member = {"attack": "universal", "fit": {"split": "train"}}
    with pytest.raises(ValueError, match="no member of an ensemble"):
        AttackSettings.model_validate({"attack": "ensemble", "epsilon": 4, "members": [member]})
