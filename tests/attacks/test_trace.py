"""The attack leaves the victim and the process as it found them, survives sick gradients, and does no more passes than it must."""

import random
from typing import Any

import numpy as np
import pytest
import torch
from tests.attacks.attack_cases import ALONE, LEVEL8, MASKS_ALONE, classifier, images, labels, segmenter, settings
from torch import Tensor, nn

from medadv.attacks.engine import perturb
from medadv.victims.inputs.normalized import Normalized
from medadv.victims.tasks.segmentation import Segmenter
from medadv.victims.victim import TaskModel


def unsteady(attack: str) -> tuple[TaskModel, Tensor, Tensor]:
    """A victim that an attack is for, with batch-norm and dropout, and two samples."""
    victim, batch = classifier(), images(2, 3, 16, 16)
    if attack not in MASKS_ALONE:
        return victim, batch, labels(2, 4)
    torch.manual_seed(0)
    parts = (nn.Conv2d(3, 4, 3, padding=1), nn.BatchNorm2d(4), nn.SiLU(), nn.Dropout(0.5), nn.Conv2d(4, 3, 1))
    return Segmenter(Normalized(victim.module.normalize, nn.Sequential(*parts).double()), "softmax", 3, 2), batch, labels(2, 3, 16, 16)


@pytest.mark.parametrize("attack", ALONE)
@pytest.mark.parametrize("training", [True, False])
def test_no_trace_on_the_victim(attack: str, training: bool) -> None:
    victim, batch, truth = unsteady(attack)
    victim.module.train(training)
    odd = next(part for part in victim.module.modules() if isinstance(part, nn.BatchNorm2d))
    odd.train(not training)  # modes differ within one model, as after freezing batch-norm
    frozen = next(victim.module.parameters())
    frozen.requires_grad_(False)
    other = list(victim.module.parameters())[1]
    other.grad = torch.full_like(other, 3.0)
    state = {key: value.clone() for key, value in victim.module.state_dict().items()}
    modes = [part.training for part in victim.module.modules()]
    needed = [parameter.requires_grad for parameter in victim.module.parameters()]
    before = batch.clone()
    torch.manual_seed(1)
    np.random.seed(1)  # noqa: NPY002 - the legacy generator is what must stay untouched
    random.seed(1)
    generators = torch.get_rng_state(), np.random.get_state()[1].copy(), random.getstate()  # noqa: NPY002
    perturb(victim, batch, truth, settings(attack, **({} if attack == "fgsm" else {"steps": 3})), lattice=LEVEL8, seeds=[1, 2])
    victim.predict(batch)
    assert torch.equal(generators[0], torch.get_rng_state())
    assert (generators[1] == np.random.get_state()[1]).all()  # noqa: NPY002
    assert generators[2] == random.getstate()
    assert torch.equal(before, batch)
    assert all(torch.equal(state[key], value) for key, value in victim.module.state_dict().items())
    assert modes == [part.training for part in victim.module.modules()]
    assert needed == [parameter.requires_grad for parameter in victim.module.parameters()]
    assert torch.equal(other.grad, torch.full_like(other, 3.0))
    assert all(parameter.grad is None for parameter in victim.module.parameters() if parameter is not other)


def test_dropout_is_off_whatever_the_mode() -> None:
    victim, batch, truth = classifier(), images(2, 3, 16, 16), labels(2, 4)
    quiet = perturb(victim, batch, truth, settings("pgd"), lattice=LEVEL8, seeds=[1, 2])
    victim.module.train()
    assert torch.equal(quiet, perturb(victim, batch, truth, settings("pgd"), lattice=LEVEL8, seeds=[1, 2]))


def test_works_where_gradients_are_off() -> None:
    victim, batch, truth = classifier(), images(2, 3, 16, 16), labels(2, 4)
    expected = perturb(victim, batch, truth, settings("smia"), lattice=LEVEL8, seeds=[1, 2])
    with torch.no_grad():
        assert torch.equal(expected, perturb(victim, batch, truth, settings("smia"), lattice=LEVEL8, seeds=[1, 2]))
        assert not torch.is_grad_enabled()


def test_a_failing_victim_is_put_back_too() -> None:
    victim = classifier()
    victim.module.train()
    with pytest.raises(RuntimeError):
        perturb(victim, images(1, 5, 16, 16), labels(1, 4), settings("pgd"), lattice=LEVEL8, seeds=[1])
    assert all(part.training for part in victim.module.modules())
    assert all(parameter.requires_grad for parameter in victim.module.parameters())


class Sick(torch.autograd.Function):
    """Identity whose gradient is not finite at one voxel of the first sample."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, value: float) -> Tensor:
        ctx.value = value
        return x.clone()

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None]:
        gradient = gradient.clone()
        gradient[0, 0, 5, 5] = ctx.value
        return gradient, None


@pytest.mark.parametrize("value", [float("nan"), float("inf"), float("-inf")])
@pytest.mark.parametrize("attack", ["bim", "mifgsm"])
def test_a_gradient_that_is_not_finite_stays_where_it_is(value: float, attack: str) -> None:
    class Ill(nn.Module):
        def __init__(self, inner: nn.Module) -> None:
            super().__init__()
            self.inner = inner

        def forward(self, x: Tensor) -> Tensor:
            return self.inner(Sick.apply(x, value))

    healthy, batch, truth = classifier(), images(2, 3, 16, 16, low=20, high=230), labels(2, 4)
    ill = type(healthy)(Ill(healthy.module), "softmax", 4)
    chosen = settings(attack, steps=1)
    expected = perturb(healthy, batch, truth, chosen, lattice=LEVEL8, seeds=[0, 0])
    found = perturb(ill, batch, truth, chosen, lattice=LEVEL8, seeds=[0, 0])
    assert found[0, 0, 5, 5] == 0
    assert expected[0, 0, 5, 5] != 0
    expected[0, 0, 5, 5] = 0
    assert torch.equal(found, expected)


class Counted(nn.Module):
    """Counts samples that go forward and backward."""

    def __init__(self, inner: nn.Module) -> None:
        super().__init__()
        self.inner, self.forwards, self.backwards, self.calls = inner, 0, 0, 0

    def forward(self, x: Tensor) -> Tensor:
        self.forwards += len(x)
        self.calls += 1
        outputs = self.inner(x)
        if outputs.requires_grad:
            outputs.register_hook(self._back)
        return outputs

    def _back(self, gradient: Tensor) -> None:
        self.backwards += len(gradient)


@pytest.mark.parametrize(
    ("attack", "changes", "calls", "forwards", "backwards"),
    [
        ("pgd", {}, 1, 1, 1),
        ("mifgsm", {}, 1, 1, 1),
        ("tifgsm", {"gradient_kernel_size": 3}, 1, 1, 1),
        ("smia", {}, 1, 2, 2),
        ("smia", {"weight": 0}, 1, 1, 1),
        ("smia", {"stop_gradient": True}, 2, 2, 1),
    ],
)
def test_passes_per_step(attack: str, changes: dict[str, Any], calls: int, forwards: int, backwards: int) -> None:
    """Per sample and step; calls count batches, since both branches share one."""
    victim, n, steps = classifier(), 3, 5
    counted = Counted(victim.module)
    measured = type(victim)(counted, "softmax", 4)
    perturb(measured, images(n, 3, 16, 16), labels(n, 4), settings(attack, steps=steps, **changes), lattice=LEVEL8, seeds=range(n))
    assert (counted.calls, counted.forwards, counted.backwards) == (calls * steps, forwards * n * steps, backwards * n * steps)
    assert all(parameter.grad is None for parameter in victim.module.parameters())


def test_listing_skips_the_smoothed_branch_in_its_first_step() -> None:
    victim = classifier()
    counted = Counted(victim.module)
    chosen = settings("smia-listing", steps=5)
    perturb(type(victim)(counted, "softmax", 4), images(2, 3, 16, 16), labels(2, 4), chosen, lattice=LEVEL8, seeds=[0, 0])
    assert (counted.forwards, counted.backwards) == (2 * (5 + 4), 2 * 5)


def test_watch_sees_both_terms() -> None:
    victim, batch, truth = segmenter(2), images(2, 1, 9, 9), labels(2, 3, 9, 9)
    seen: list[tuple[int, Tensor, Tensor, Tensor | None]] = []
    perturb(victim, batch, truth, settings("smia", steps=3), lattice=LEVEL8, seeds=[1, 2], watch=lambda *terms: seen.append(terms))
    assert [number for number, *_ in seen] == [0, 1, 2]
    assert all(a.shape == (2,) and b is not None and b.shape == (2,) and not a.requires_grad for _, _, a, b in seen)
    assert all(delta.shape == batch.shape and delta.abs().max() <= 4 for _, delta, _, _ in seen)


def test_an_empty_batch_is_empty() -> None:
    found = perturb(classifier(), images(2, 3, 8, 8)[:0], labels(2, 4)[:0], settings("smia"), lattice=LEVEL8, seeds=[])
    assert found.shape == (0, 3, 8, 8)
