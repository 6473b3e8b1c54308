"""Best iterates and restarts: never a worse sample than the last iterate, by the truth first and then by the plain loss."""

from dataclasses import dataclass
from typing import Any

import numpy as np
import pytest
import torch
from attack_cases import LEVEL8, classifier, images, labels, segmenter, settings
from torch import Tensor, nn

from medadv.attacks.engine import perturb
from medadv.attacks.feasible import restart_seed
from medadv.datasets.labels import Prediction
from medadv.spec.attack import AttackSettings
from medadv.victims.tasks.classification import Classifier
from medadv.victims.tasks.segmentation import IGNORE, Segmenter

SEEDS = [11, 12, 13, 14, 15, 16]


def case(name: str) -> tuple[Any, Tensor, Tensor]:
    """Victim, six images, and a truth of which the victim is sometimes right and sometimes wrong."""
    if name == "classes":
        return classifier(), images(6, 3, 16, 16), labels(6, 4)
    if name == "labels":
        return classifier(head="sigmoid"), images(6, 3, 16, 16), labels(6, 2, 4).float()
    victim = segmenter(2, head="softmax" if name == "masks" else "sigmoid")
    truth = labels(6, 3, 12, 12) if name == "masks" else labels(6, 2, 3, 12, 12)
    truth = truth.to(torch.uint8)
    truth[:, ..., 0] = IGNORE
    truth[0] = 0  # no foreground at all
    return victim, images(6, 1, 12, 12), truth


NAMES = ["classes", "labels", "masks", "masks of several"]


def ends(victim: Any, batch: Tensor, truth: Tensor, **changes: Any) -> tuple[Tensor, Tensor, Tensor]:
    """Perturbation, wrongness and loss of what an attack stores."""
    made = settings(changes.pop("attack", "pgd"), changes.pop("epsilon", 6), **{"steps": 6, **changes})
    delta = perturb(victim, batch, truth, made, lattice=LEVEL8, seeds=SEEDS[: len(batch)])
    with torch.no_grad():
        wrongness, loss = victim.standing(victim.forward(batch + delta), truth, made)
    return delta, wrongness, loss


def at_least_as_bad(one: tuple[Tensor, Tensor, Tensor], other: tuple[Tensor, Tensor, Tensor]) -> Tensor:
    return (one[1] > other[1]) | ((one[1] == other[1]) & (one[2] >= other[2] - 1e-12))


OTHERS = [{"attack": "smia", "steps": 3}, {"epsilon": 2.5, "step": 0.7}, *({"attack": name} for name in ("mifgsm", "difgsm", "nifgsm"))]


@pytest.mark.parametrize("changes", [{}, *OTHERS], ids=str)
@pytest.mark.parametrize("name", NAMES)
def test_the_best_iterate_is_at_least_as_bad_for_the_victim_as_the_last(name: str, changes: dict[str, Any]) -> None:
    last, best = (ends(*case(name), **changes, keep=keep) for keep in ("last", "best"))
    assert at_least_as_bad(best, last).all()


@pytest.mark.parametrize("name", NAMES)
def test_the_kept_iterate_is_the_best_of_all_that_were_passed(name: str) -> None:
    """By hand: every iterate of the same attack, as it is watched, with the start and the end."""
    victim, batch, truth = case(name)
    made = settings("pgd", 6, steps=5)
    seen: list[Tensor] = []
    end = perturb(victim, batch, truth, made, lattice=LEVEL8, seeds=SEEDS, watch=lambda _, delta, *__: seen.append(delta))
    kept = ends(victim, batch, truth, steps=5, keep="best")
    with torch.no_grad():
        standings = [victim.standing(victim.forward(batch + delta), truth, made) for delta in (*seen, end)]
    for row in range(len(batch)):
        expected = max((float(wrong[row]), float(loss[row])) for wrong, loss in standings)
        assert (float(kept[1][row]), float(kept[2][row])) == pytest.approx(expected)


class Valley(nn.Module):
    """Two classes whose difference rises and falls along the way: the middle of the attack is its best place."""

    def forward(self, x: Tensor) -> Tensor:
        moved = x.flatten(1).mean(1) - 100
        # The second class is answered from 3 to 5 above 100 alone; its slope points upwards up to 6.
        value = torch.where(moved < 4, moved - 3, 5 - moved)
        return torch.stack([torch.zeros_like(value), value], 1)


def test_a_success_that_is_stepped_over_is_kept() -> None:
    victim = Classifier(Valley(), "softmax", 2)
    batch, truth = torch.full((1, 1, 4, 4), 100.0, dtype=torch.float64), torch.zeros(1, dtype=torch.long)
    delta, wrong, _ = ends(victim, batch, truth, attack="bim", epsilon=9, step=4, steps=2, keep="best")
    assert (delta == 4).all()
    assert wrong.tolist() == [1]
    _, wrong, _ = ends(victim, batch, truth, attack="bim", epsilon=9, step=4, steps=2, keep="last")
    assert wrong.tolist() == [0]


def test_a_sample_that_is_wrong_when_clean_never_ends_right() -> None:
    """The stored rule of success, "the answer changed", would take an iterate that turns a wrong answer right."""
    victim, batch, _ = case("classes")
    with torch.no_grad():
        truth = (victim.forward(batch).argmax(1) + 1) % 4
    for steps in (1, 2, 5):
        _, last, _ = ends(victim, batch, truth, steps=steps, epsilon=30, step=10)
        _, best, _ = ends(victim, batch, truth, steps=steps, epsilon=30, step=10, keep="best")
        assert (best >= last).all()


@pytest.mark.parametrize("keep", ["last", "best"])
@pytest.mark.parametrize("name", NAMES)
def test_restarts_keep_the_best_of_all_starts(name: str, keep: str) -> None:
    victim, batch, truth = case(name)
    several = ends(victim, batch, truth, restarts=3, keep=keep)
    made = settings("pgd", 6, steps=6, keep=keep)
    alone = []
    for restart in range(3):
        seeds = [restart_seed(seed, restart) for seed in SEEDS]
        delta = perturb(victim, batch, truth, made, lattice=LEVEL8, seeds=seeds)
        with torch.no_grad():
            alone.append((delta, *victim.standing(victim.forward(batch + delta), truth, made)))
    for row in range(len(batch)):
        expected = max((float(wrong[row]), float(loss[row])) for _, wrong, loss in alone)
        assert (float(several[1][row]), float(several[2][row])) == pytest.approx(expected)
    assert len({tuple(delta[0].flatten().tolist()) for delta, _, _ in alone}) == 3


@dataclass
class Answer:
    """What a mask victim's own scoring says of logits."""

    victim: Segmenter

    def scores(self, logits: Tensor, truth: Tensor) -> list[float]:
        answers = logits.argmax(1) if self.victim.head == "softmax" else logits > 0
        pairs = zip(answers.to(torch.uint8).numpy(), truth.numpy(), strict=True)
        return [self.victim.score(Prediction(answer), np.asarray(label)) for answer, label in pairs]


@pytest.mark.parametrize("name", ["masks", "masks of several"])
def test_wrongness_of_masks_is_what_scoring_says_of_them(name: str) -> None:
    victim, batch, truth = case(name)
    with torch.no_grad():
        logits = victim.forward(batch)
        logits[1, 0] += 100 if victim.head == "softmax" else -100  # a sample with hardly any foreground answered
        wrongness, _ = victim.standing(logits, truth, settings("pgd", 6))
    np.testing.assert_allclose(1 - wrongness.numpy(), Answer(victim).scores(logits, truth), atol=1e-6)


def test_restarts_without_random_starts_are_refused() -> None:
    with pytest.raises(ValueError, match="end alike without random_start"):
        AttackSettings.model_validate({"attack": "bim", "epsilon": 8, "restarts": 3})
