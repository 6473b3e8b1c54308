"""APGD against the authors' code, its checkpoints by hand, and what it is for: it beats PGD of equal passes."""

from collections.abc import Iterator
from typing import Any

import pytest
import torch
from tests.attacks.attack_cases import LEVEL8, classifier, images, labels, segmenter, settings
from torch import Tensor, nn

from medadv.attacks import apgd as module
from medadv.attacks.apgd import apgd, periods
from medadv.attacks.cost import passes
from medadv.attacks.engine import perturb
from medadv.attacks.problem import Problem
from medadv.spec.attack import AttackSettings
from medadv.victims.tasks.classification import Classifier
from medadv.victims.tasks.margins import Aimed

EPSILON = 6


@pytest.fixture
def double() -> Iterator[None]:
    """The authors' code makes its buffers in the default type."""
    torch.set_default_dtype(torch.float64)
    yield
    torch.set_default_dtype(torch.float32)


def chosen(steps: int, **changes: Any) -> AttackSettings:
    return AttackSettings.model_validate({"attack": "apgd", "epsilon": EPSILON, "steps": steps, **changes})


def problem_of(victim: Any, batch: Tensor, truth: Any, made: AttackSettings) -> Problem:
    return Problem.of(victim, batch, truth, made, LEVEL8, None, None)


def ours(victim: Classifier, batch: Tensor, truth: Tensor, made: AttackSettings, start: Tensor, aim: Any = None) -> list[Tensor]:
    """Every iterate, from the start to the end, as floats."""
    seen: list[Tensor] = []
    problem = problem_of(victim, batch, truth, made)
    problem = problem if aim is None else problem.aimed(victim.forward(batch).detach(), aim)
    for parameter in victim.module.parameters():
        parameter.requires_grad_(False)
    end = apgd(problem, start.clone(), [], None, lambda _, delta, *__: seen.append(delta.clone()))
    return [*seen, end]


def objective_at(victim: Classifier, batch: Tensor, truth: Tensor, made: AttackSettings, delta: Tensor, wanted: Any) -> Tensor:
    with torch.no_grad():
        return victim.deviation(victim.forward(batch + delta), truth if wanted is None else Aimed(truth, wanted), made)


def theirs(victim: Classifier, batch: Tensor, truth: Tensor, made: AttackSettings, start: Tensor, loss: str, wanted: Any) -> list[Tensor]:
    from pyautoattack.autopgd_base import APGDAttack, APGDAttack_targeted

    seen: list[Tensor] = []

    def answer(x: Tensor) -> Tensor:
        seen.append((x.detach() * 255 - batch).clone())
        return victim.forward(x * 255)

    kind = APGDAttack if wanted is None else APGDAttack_targeted
    attack = kind(answer, n_iter=made.steps, eps=made.epsilon / 255, device="cpu")
    attack.loss, attack.y_target = loss, wanted
    attack.init_hyperparam(batch)
    counted, first = attack.check_oscillation, objective_at(victim, batch, truth, made, start, wanted)

    def from_the_start(losses: Tensor, at: int, period: int, *rest: Any, **named: Any) -> Tensor:
        # At the first checkpoint the authors' code reaches for the loss before the first, and finds the last row of an empty table.
        losses = losses.clone()
        if at < period < made.steps:
            losses[-1] = first
        return counted(losses, at, period, *rest, **named)

    attack.check_oscillation = from_the_start
    attack.attack_single_run(batch / 255, truth, x_init=(batch + start) / 255)
    return seen


CASES: dict[str, tuple[dict[str, Any], str, int | None]] = {
    "ce": ({}, "ce", None),
    "dlr": ({"loss": "dlr"}, "dlr", None),
    "dlr, likeliest wrong class": ({"loss": "dlr", "target_classes": 3}, "dlr-targeted", 0),
    "dlr, third": ({"loss": "dlr", "target_classes": 3}, "dlr-targeted", 2),
    "ce, second": ({"loss": "ce", "target_classes": 3}, "ce-targeted", 1),
}


@pytest.mark.usefixtures("double")
@pytest.mark.parametrize("steps", [7, 40, 100])
@pytest.mark.parametrize("case", CASES)
def test_every_iterate_equals_that_of_the_authors_code(case: str, steps: int) -> None:
    changes, loss, rank = CASES[case]
    made = chosen(steps, **changes)
    victim, batch, truth = classifier(classes=5), images(6, 3, 12, 14), labels(6, 5)
    start = problem_of(victim, batch, truth, made).start([3, 4, 5, 6, 7, 8])
    with torch.no_grad():
        ranked = victim.forward(batch).scatter(1, truth.unsqueeze(1), -torch.inf).argsort(1, descending=True)
    found = ours(victim, batch, truth, made, start, rank)
    expected = theirs(victim, batch, truth, made, start, loss, None if rank is None else ranked[:, rank])
    assert len(found) == len(expected) == steps + 1
    for one, other in zip(found, expected, strict=True):
        torch.testing.assert_close(one, other, rtol=0, atol=1e-6)
    assert found[-1].abs().max() <= EPSILON


def test_checkpoints_are_those_of_the_paper() -> None:
    assert periods(100) == [22, 41, 57, 70, 80, 87, 93, 99]
    assert periods(1) == []
    assert periods(10) == [2, 3, 4, 5, 6, 7, 8, 9]


class Hill(nn.Module):
    """Two classes whose margin is largest 10 levels above 100: long steps go to and fro across it."""

    def forward(self, x: Tensor) -> Tensor:
        height = -(x.flatten(1).mean(1) - 110).abs()
        return torch.stack([torch.zeros_like(height), height], 1)


def test_steps_are_halved_until_the_top_is_found() -> None:
    victim = Classifier(Hill(), "softmax", 2)
    batch, truth = torch.full((1, 1, 4, 4), 100.0, dtype=torch.float64), torch.zeros(1, dtype=torch.long)
    made = settings("apgd", 40, step=80, steps=100, random_start=False)
    end = apgd(problem_of(victim, batch, truth, made), torch.zeros_like(batch), [], None, None)
    assert (end - 10).abs().max() < 1
    found = perturb(victim, batch, truth, made, lattice=LEVEL8, seeds=[0])
    assert (found == 10).all()
    wide = perturb(victim, batch, truth, settings("pgd", 40, step=80, steps=100, random_start=False), lattice=LEVEL8, seeds=[0])
    assert (wide - 10).abs().min() > 1


def test_each_sample_has_its_own_steps() -> None:
    """In a batch of a hill and a slope the steps on the slope stay whole, as they are when it is alone."""

    class Both(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            mean = x.flatten(1).mean(1)
            height = torch.where(mean < 180, -(mean - 110).abs(), mean)
            return torch.stack([torch.zeros_like(height), height], 1)

    victim, truth = Classifier(Both(), "softmax", 2), torch.zeros(2, dtype=torch.long)
    batch = torch.cat([torch.full((1, 1, 4, 4), value, dtype=torch.float64) for value in (100.0, 212.0)])
    made = settings("apgd", 30, step=3, steps=30, random_start=False, keep="last")
    together, alone = (
        [perturb(victim, batch[s], truth[s], made, lattice=LEVEL8, seeds=[0] * len(batch[s])) for s in parts]
        for parts in ([slice(0, 2)], [slice(0, 1), slice(1, 2)])
    )
    assert torch.equal(torch.cat(together), torch.cat(alone))
    assert (together[0][1] == 30).all()


@pytest.mark.parametrize("seed", range(5))
def test_it_beats_pgd_of_equal_passes(seed: int) -> None:
    victim, batch, truth = classifier(seed=seed), images(8, 3, 16, 16, seed=seed), labels(8, 4)
    strong = settings("apgd", 16, step=32, steps=20)
    plain = settings("pgd", 16, step=4, steps=29, keep="best")
    assert sum(passes(plain)) == 59 < sum(passes(strong)) == 60
    with torch.no_grad():
        reached = [
            victim.standing(victim.forward(batch + perturb(victim, batch, truth, made, lattice=LEVEL8, seeds=range(8))), truth, made)
            for made in (strong, plain)
        ]
    (wrong, loss), (wrong_plain, loss_plain) = reached
    assert wrong.mean() >= wrong_plain.mean()
    assert loss.mean() > loss_plain.mean()


def test_checkpoints_go_by_the_loss_without_stabilization(monkeypatch: pytest.MonkeyPatch) -> None:
    victim, batch, truth = classifier(), images(2, 3, 16, 16), labels(2, 4)
    seen: list[Tensor] = []
    plain = module.checkpoint_loss

    def noted(*about: Any) -> Tensor:
        seen.append(plain(*about))
        return seen[-1]

    monkeypatch.setattr(module, "checkpoint_loss", noted)
    made, deltas = chosen(6, weight=5.0, keep="last"), []
    perturb(victim, batch, truth, made, lattice=LEVEL8, seeds=[1, 2], watch=lambda _, delta, *__: deltas.append(delta.clone()))
    with torch.no_grad():
        expected = [nn.functional.cross_entropy(victim.forward(batch + delta), truth, reduction="none") for delta in deltas]
    torch.testing.assert_close(torch.stack(seen), torch.stack(expected))
    without = perturb(victim, batch, truth, chosen(6, keep="last"), lattice=LEVEL8, seeds=[1, 2])
    assert not torch.equal(without, perturb(victim, batch, truth, made, lattice=LEVEL8, seeds=[1, 2]))


def test_each_start_drives_towards_another_class() -> None:
    victim, batch, truth = classifier(classes=5), images(4, 3, 16, 16), labels(4, 5)
    made = chosen(8, loss="dlr", target_classes=3)
    assert made.restarts == 3
    with torch.no_grad():
        clean = victim.forward(batch)
    for rank in range(3):
        aim = victim.aimed(clean, truth, rank)
        assert (aim.wanted != truth).all()
        others = clean.scatter(1, truth.unsqueeze(1), -torch.inf)
        assert ((others > others.gather(1, aim.wanted.unsqueeze(1))).sum(1) == rank).all()
        problem = problem_of(victim, batch, truth, made).aimed(clean, rank)
        end = apgd(problem, problem.start([1, 2, 3, 4]), [], None, None)
        with torch.no_grad():
            assert (victim.deviation(victim.forward(batch + end), aim, made) > victim.deviation(clean, aim, made)).all()
    with pytest.raises(ValueError, match="target_classes=5: the victim answers 5 classes, of which 4 are wrong"):
        perturb(victim, batch, truth, chosen(2, target_classes=5), lattice=LEVEL8, seeds=range(4))
    with pytest.raises(ValueError, match="softmax head: leave it out"):
        perturb(segmenter(2), images(1, 1, 8, 8), labels(1, 3, 8, 8), chosen(2, target_classes=1), lattice=LEVEL8, seeds=[0])


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"momentum": 1.0}, "momentum=1.0: apgd has its own, 0.75: leave momentum out"),
        ({"gradient_sigma": 1.0}, "leave gradient_sigma out"),
        ({"smooth": "last_step", "stop_gradient": True, "weight": 0.5}, "take perturbation or image"),
        ({"target_classes": 3, "restarts": 2}, "leave some of target_classes=3 untried"),
        ({"target_classes": 2, "restarts": 3, "random_start": False}, "end alike without random_start"),
    ],
)
def test_settings_that_it_does_not_use_are_refused(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        chosen(5, **changes)


@pytest.mark.parametrize("keep", ["last", "best"])
def test_what_a_plan_holds_means_the_same_when_it_is_read(keep: str) -> None:
    """Though `keep: last` is what no plan says of attacks that know no other."""
    made = chosen(5, keep=keep)
    assert AttackSettings.model_validate(made.model_dump(mode="json")) == made
