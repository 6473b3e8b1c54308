"""Square against the authors' code: with the same squares the same end, with its own as many successes; more axes; no gradients."""

from typing import Any

import numpy as np
import pytest
import torch
from tests.attacks.attack_cases import HU, LEVEL8, classifier, images, labels, segmenter, settings
from torch import Tensor, nn

from medadv.attacks.engine import perturb
from medadv.attacks.problem import Problem
from medadv.attacks.square import proposals, share, side_lengths, square, stripes
from medadv.spec.attack import AttackSettings
from medadv.victims.inputs.normalized import Normalized
from medadv.victims.tasks.classification import Classifier

EPSILON = 8


def chosen(steps: int, **changes: Any) -> AttackSettings:
    return AttackSettings.model_validate({"attack": "square", "epsilon": EPSILON, "steps": steps, **changes})


def problem_of(victim: Any, batch: Tensor, truth: Any, made: AttackSettings, region: Tensor | None = None) -> Problem:
    return Problem.of(victim, batch, truth, made, LEVEL8, region, None)


def authors(victim: Classifier, made: AttackSettings, **changes: Any) -> Any:
    from pyautoattack.square import SquareAttack

    found = SquareAttack(lambda x: victim.forward(x * 255), eps=made.epsilon / 255, n_queries=made.steps, device="cpu", **changes)
    found.seed = 0
    return found


@pytest.mark.parametrize("queries", [1, 30, 500, 5000])
def test_the_schedule_is_the_authors(queries: int) -> None:
    theirs = authors(classifier(), chosen(queries))
    for query in range(queries):
        part = theirs.p_selection(query)
        assert share(query, queries) == part
        side = min(max(round(float(np.sqrt(part * 20 * 20))), 1), 20)
        assert side_lengths((20, 20), part) == (side, side)


def test_a_box_covers_its_part_of_flat_volumes_too() -> None:
    assert side_lengths((64, 64, 64), 0.8 / 8) == (30, 30, 30)
    assert side_lengths((256, 256, 8), 0.8) == (229, 229, 8)
    assert side_lengths((1, 1), 0.001) == (1, 1)
    assert side_lengths((3, 200), 0.5) == (3, 100)


@pytest.mark.parametrize("row", range(4))
def test_with_the_same_squares_it_ends_where_the_authors_code_ends(row: int, monkeypatch: pytest.MonkeyPatch) -> None:
    victim = classifier(seed=2)
    batch = images(4, 3, 16, 16)[row : row + 1]
    with torch.no_grad():
        truth = victim.forward(batch).argmax(1)
    made, seeds = chosen(60), [row]
    problem = problem_of(victim, batch, truth, made)
    corners, signs = proposals(problem, seeds, [side_lengths((16, 16), share(query, 60)) for query in range(60)])
    start = stripes(problem, seeds)
    # What the authors' code draws, in its order: the stripes, then each square's corner and signs.
    places, heights = iter(corners[:, 0].flatten().tolist()), iter([_signs(problem, seeds), *signs[:, 0]])
    asked: list[Tensor] = []
    theirs = authors(victim, made, loss="margin")
    theirs.predict = lambda x: (asked.append(x), victim.forward(x * 255))[1]
    monkeypatch.setattr(theirs, "random_int", lambda *_: torch.tensor([next(places)]))
    monkeypatch.setattr(theirs, "random_choice", lambda shape: next(heights).reshape(shape))
    theirs.init_hyperparam(batch)
    _, expected = theirs.attack_single_run(batch / 255, truth)
    found = square(problem, start, seeds, None, None)
    assert len(asked) > 5
    torch.testing.assert_close(batch + found, expected * 255, rtol=0, atol=1e-6)


def _signs(problem: Problem, seeds: list[int]) -> Tensor:
    """The stripes' signs, which bounds may have cut."""
    unbounded = Problem.of(problem.objective, torch.full_like(problem.images, 128), None, problem.settings, LEVEL8, None, None)
    return (stripes(unbounded, seeds) / problem.settings.epsilon)[:, :, :1]


def test_it_succeeds_as_often_as_the_authors_code() -> None:
    """Twenty seeds, forty images each, by the number of queries."""
    victim, batch = classifier(seed=2), images(40, 3, 12, 12, seed=4)
    with torch.no_grad():
        truth = victim.forward(batch).argmax(1)
    for queries in (10, 60):
        made = chosen(queries, epsilon=24)
        shares: dict[str, list[float]] = {"ours": [], "theirs": []}
        for seed in range(20):
            delta = perturb(victim, batch, truth, made, lattice=LEVEL8, seeds=[100 * seed + row for row in range(40)])
            theirs = authors(victim, made, loss="margin")
            theirs.init_hyperparam(batch)
            with torch.random.fork_rng(), torch.no_grad():
                torch.manual_seed(seed)
                _, example = theirs.attack_single_run(batch / 255, truth)
                for name, shown in (("ours", batch + delta), ("theirs", example * 255)):
                    shares[name].append(float((victim.forward(shown).argmax(1) != truth).double().mean()))
        ours, theirs_mean = np.mean(shares["ours"]), np.mean(shares["theirs"])
        assert 0.05 < ours < 0.95
        # Squares of a batch are one and the same in the authors' code, so that its seeds differ more.
        error = 3 * np.hypot(np.std(shares["ours"]), np.std(shares["theirs"])) / np.sqrt(20)
        assert abs(ours - theirs_mean) < max(error, 0.02)


CASES = ["2D", "3D", "several channels"]


def case(name: str) -> tuple[Any, Tensor, Tensor]:
    if name == "several channels":
        return classifier(), images(3, 3, 16, 16), labels(3, 4)
    spatial = (12, 10) if name == "2D" else (8, 9, 5)
    return segmenter(len(spatial)), images(3, 1, *spatial), labels(3, 3, *spatial).to(torch.uint8)


@pytest.mark.parametrize("epsilon", [8, 2.5])
@pytest.mark.parametrize("name", CASES)
def test_every_question_could_be_stored(name: str, epsilon: float) -> None:
    """On the lattice, in the ball, in the range, within the region; and no answer is differentiated."""
    victim, batch, truth = case(name)
    region = torch.zeros_like(batch[:, :1])
    region[:, :, 2:7, 3:8] = 1
    asked: list[Tensor] = []

    class Asked(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            asked.append(x)
            answer = victim.module(x)
            assert not answer.requires_grad
            return answer

    watched = victim.on(Asked())
    found = perturb(watched, batch, truth, chosen(25, epsilon=epsilon), lattice=LEVEL8, seeds=[1, 2, 3], region=region)
    assert len(asked) == 26
    for shown in asked:
        moved = shown - batch
        assert torch.equal(moved, moved.round())
        assert moved.abs().max() <= epsilon
        assert 0 <= shown.min() <= shown.max() <= 255
        assert not moved[(region == 0).expand_as(moved)].any()
    assert any(torch.equal(shown[0], (batch + found)[0]) for shown in asked)


@pytest.mark.parametrize("name", CASES)
def test_no_step_makes_it_better_for_the_victim(name: str) -> None:
    victim, batch, truth = case(name)
    last = None
    for steps in (1, 10, 40):
        # The share of a square depends on the number of queries: each has its own.
        problem = problem_of(victim, batch, truth, chosen(steps))
        start = stripes(problem, [1, 2, 3])
        with torch.no_grad():
            before, after = problem.seen(start), problem.seen(square(problem, start, [1, 2, 3], None, None))
        assert ((after[0] > before[0]) | ((after[0] == before[0]) & (after[1] >= before[1]))).all()
        last = (after[0] > before[0]) | (after[1] > before[1])
    assert last is not None
    assert last.any()


def test_masks_lose_more_than_to_stripes_or_noise() -> None:
    victim, batch = segmenter(2), images(4, 1, 24, 24, seed=3)
    with torch.no_grad():
        truth = victim.forward(batch).argmax(1).to(torch.uint8)
        found = perturb(victim, batch, truth, chosen(100), lattice=LEVEL8, seeds=range(4))
        noise = torch.where(torch.rand(batch.shape, generator=torch.Generator().manual_seed(0)) < 0.5, -EPSILON, EPSILON)
        shown = [batch + found, batch + stripes(problem_of(victim, batch, truth, chosen(1)), range(4)), (batch + noise).clamp(0, 255)]
        ours, striped, noisy = (victim.wrongness(victim.forward(x), truth).mean() for x in shown)
    assert ours > striped
    assert ours > noisy


class Bright(nn.Module):
    """Two classes: the second from a mean of 130 on."""

    def forward(self, x: Tensor) -> Tensor:
        height = x.flatten(1).mean(1) - 130
        return torch.stack([torch.zeros_like(height), height], 1)


def test_what_is_wrong_stays_as_it_is() -> None:
    victim = Classifier(Normalized(nn.Identity(), Bright()), "softmax", 2)
    batch, truth = torch.cat([torch.full((1, 1, 8, 8), 120.0), torch.full((1, 1, 8, 8), 140.0)]), torch.zeros(2, dtype=torch.long)
    seen: list[Tensor] = []
    made = chosen(200, epsilon=20)
    perturb(victim, batch, truth, made, lattice=LEVEL8, seeds=[1, 2], watch=lambda _, delta, *__: seen.append(delta))
    # The second is wrong from the start, and could become more so; the first gets there on its way.
    assert all(torch.equal(delta[1], seen[0][1]) for delta in seen)
    means = [float(delta[0].mean()) for delta in seen]
    assert means[0] < 10 < means[-1] < 20
    assert len({mean for mean in means if mean > 10}) == 1


def test_volumes_in_hu() -> None:
    victim, batch, truth = segmenter(3), images(2, 1, 6, 7, 5, low=-1024, high=3071), labels(2, 3, 6, 7, 5)
    found = perturb(victim, batch, truth, settings("square", 300, step=600, steps=20), lattice=HU, seeds=[1, 2])
    assert found.abs().max() == 300


def test_squares_depend_on_each_samples_seed_alone() -> None:
    victim, batch, truth = case("several channels")
    sides = [side_lengths((16, 16), share(query, 9)) for query in range(9)]
    made = problem_of(victim, batch, truth, chosen(9))
    torch.manual_seed(0)
    corners, signs = proposals(made, [5, 6, 7], sides)
    alone = [proposals(problem_of(victim, batch[:1], truth[:1], chosen(9)), [seed], sides) for seed in (5, 6, 7)]
    assert torch.equal(corners, torch.cat([each[0] for each in alone], 1))
    assert torch.equal(signs, torch.cat([each[1] for each in alone], 1))
    assert len({tuple(corners[:, row].flatten().tolist()) for row in range(3)}) == 3
    room = 16 - torch.tensor(sides)[:, None]
    assert ((corners >= 0) & (corners <= room)).all()


@pytest.mark.parametrize("changes", [{"weight": 0.5}, {"momentum": 1.0}, {"gradient_sigma": 1.0}, {"keep": "last"}])
def test_settings_that_it_does_not_use_are_refused(changes: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=f"leave {next(iter(changes))} out"):
        chosen(5, **changes)
