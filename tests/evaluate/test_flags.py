"""Signs against a robust figure: each seen where it is, and silent where it is not."""

from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
import torch
from tests.attacks.attack_cases import LEVEL8, classifier, images, segmenter, settings
from tests.conftest import plainly
from tests.evidence.test_attack_strength import Rounded, linear
from tests.victims.test_goal_losses import TRUTHS, detector
from torch import Tensor, nn

from medadv.batches.batch import Batch
from medadv.batches.bench import AttackBench
from medadv.batches.ensemble import NOBODY, START, UNTRIED
from medadv.datasets.labels import Label, Prediction
from medadv.evaluate import flags
from medadv.evaluate.flags import already_probabilities, beaten_by_weaker, clamped, passes_differ, zero_gradients
from medadv.evaluate.measure import makers_at
from medadv.report.columns import AttackColumns
from medadv.victims.inputs.deployed import Logits
from medadv.victims.inputs.normalized import Normalized
from medadv.victims.tasks.classification import Classifier


def test_a_weaker_attack_that_finds_more() -> None:
    attacks = {"pgd": settings("pgd", 4, steps=50), "also": settings("mifgsm", 4, steps=50), "fgsm": settings("fgsm", 4)}
    quiet = beaten_by_weaker(attacks, ["pgd", "also", None, "pgd"])
    assert (quiet.number, quiet.sentence) == (0, None)
    loud = beaten_by_weaker(attacks, ["pgd", "fgsm", None, "pgd"])
    assert loud.number == 0.25
    assert loud.sentence is not None
    assert loud.sentence.startswith("fgsm, which asks for fewer gradients, broke 1 of 4 samples that pgd before it could not")
    # The other way round nothing is odd: the stronger attack finds more.
    assert beaten_by_weaker(dict(reversed(attacks.items())), ["also", "pgd", "fgsm"]).sentence is None


def test_a_black_box_that_finds_more(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(flags, "BLACK_BOX", frozenset({"bim"}))
    attacks = {"pgd": settings("pgd", 4, steps=5), "blind": settings("bim", 4, steps=500)}
    found = beaten_by_weaker(attacks, ["blind", "blind", "pgd"])
    assert found.sentence is not None
    assert found.sentence.startswith("blind, which asks for no gradient, broke 2 of 3 samples that pgd")
    one_in_a_thousand: list[str | None] = ["blind", *["pgd"] * 999]
    assert beaten_by_weaker(attacks, one_in_a_thousand).sentence is None


def columns(made_by: list[int], scores: list[list[float]], adversarial: list[Label], clean: list[float]) -> AttackColumns:
    none, ends = np.zeros(len(made_by)), np.array(scores).min(1)
    end = np.where(ends == UNTRIED, clean, ends)
    return AttackColumns(
        none, none, none, none, np.array(clean), end, adversarial=adversarial, made_by=np.array(made_by), member_score=np.array(scores)
    )


def test_who_broke_a_class_at_a_smaller_epsilon_has_broken_it() -> None:
    members, truths = ["1 apgd ce", "2 square"], [np.asarray(0)] * 3
    right, wrong = np.asarray(0), np.asarray(1)
    # At 1 the black box breaks the first sample, at 4 the gradient breaks the second; the third holds.
    small = columns([1, NOBODY, NOBODY], [[0.8, 0.2], [0.8, 0.8], [0.9, 0.9]], [wrong, right, right], [0.9] * 3)
    large = columns([START, 0, NOBODY], [[UNTRIED, UNTRIED], [0.1, UNTRIED], [0.8, 0.8]], [wrong, wrong, right], [0.9] * 3)
    assert makers_at(members, [small, large], truths, "classification") == [["2 square", None, None], ["2 square", "1 apgd ce", None]]


def test_of_masks_and_labels_each_epsilon_tells_what_is_new() -> None:
    members, masks = ["1 sea ce", "2 square"], [np.zeros((2, 2))] * 2
    # At 1 the black box goes clearly below; at 4 the first begins there, and lowers the second sample alone.
    small = columns([1, 0], [[0.9, 0.5], [0.7, 0.7]], [], [0.9, 0.9])
    large = columns([START, 0], [[0.5, 0.5], [0.2, 0.2]], [], [0.9, 0.9])
    told = [["2 square", "1 sea ce"], [None, "1 sea ce"]]
    assert makers_at(members, [small, large], masks, "segmentation") == told
    # Several labels are rarely wrong in all of them.
    labels = [np.array([1, 1, 0])] * 2
    assert makers_at(members, [small, large], labels, "classification") == told


class Noisy(nn.Module):
    """Answers with noise, in evaluation mode too."""

    def __init__(self, inner: nn.Module, scale: float) -> None:
        super().__init__()
        self.inner, self.scale = inner, scale

    def forward(self, x: Tensor) -> Tensor:
        answers: Tensor = self.inner(x)
        return answers + self.scale * torch.randn_like(answers)


@pytest.mark.parametrize("victim", [classifier(), segmenter(2)])
def test_two_passes(victim: Classifier) -> None:
    batch = images(3, 3 if victim.task == "classification" else 1, 12, 12)
    before = torch.random.get_rng_state()
    assert (passes_differ(victim, batch).number, passes_differ(victim, batch).sentence) == (0, None)
    noisy = passes_differ(victim.on(Noisy(victim.module, 0.1)), batch)
    assert noisy.number == 1
    assert noisy.sentence is not None
    # What single precision loses from one run to the next is no randomness.
    assert passes_differ(victim.on(Noisy(victim.module, 1e-9)), batch).sentence is None
    assert torch.equal(torch.random.get_rng_state(), before)


class Answered(Classifier):
    """Its network runs for a prediction alone, as that of a detector of two stages does."""

    def tensors(self, outputs: Any) -> Iterator[Tensor]:
        yield outputs.detach()

    def forward(self, images: Tensor) -> Any:
        return images

    def predict(self, images: Tensor) -> list[Prediction]:
        return Classifier(self.module, self.head, self.classes).predict(images)


def test_two_predictions_of_which_each_puts_the_generators_back() -> None:
    plain = classifier()
    assert passes_differ(Answered(plain.module, "softmax", 4), images(3, 3, 12, 12)).number == 0
    assert passes_differ(Answered(Noisy(plain.module, 0.1), "softmax", 4), images(3, 3, 12, 12)).number == 1


def test_outputs_that_are_probabilities_already() -> None:
    logits = np.random.default_rng(0).normal(0, 2, (8, 4))
    softmax, sigmoid = torch.from_numpy(logits).softmax(1).numpy(), torch.from_numpy(logits).sigmoid().numpy()
    found = already_probabilities(softmax, "softmax")
    assert found.number == 1
    assert found.sentence is not None
    assert "activation: softmax" in found.sentence
    assert "activation: sigmoid" in (already_probabilities(sigmoid, "sigmoid").sentence or "")
    half = already_probabilities(torch.from_numpy(softmax).half().double().numpy(), "softmax")
    assert half.sentence is not None
    assert already_probabilities(logits, "softmax").sentence is None
    assert already_probabilities(logits, "sigmoid").sentence is None
    assert already_probabilities(sigmoid, "softmax").sentence is None
    # Voxel-wise: one row a voxel, over all of which the classes sum to 1.
    maps = torch.randn(2, 3, 5, 5, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    assert already_probabilities(maps.softmax(1).numpy(), "softmax").number == 1
    assert already_probabilities(maps.softmax(2).numpy(), "softmax").sentence is None


def bench(victim: Classifier) -> AttackBench:
    batch = (images(4, 3, 8, 8).float() / 5 + 100).round()
    labels = [np.asarray(prediction.answer) for prediction in victim.predict(batch)]
    return AttackBench(plainly(victim), Batch(batch, labels, list("abcd"), LEVEL8), [0, 1, 2, 3], 4)


def test_gradients_of_zero() -> None:
    plain = linear()
    assert zero_gradients(bench(plain), settings("pgd", 4)).sentence is None
    found = zero_gradients(bench(Classifier(Rounded(plain.module), "softmax", 2)), settings("pgd", 4))
    assert found.number == 1
    assert "exactly zero" in (found.sentence or "")


@pytest.mark.parametrize("attack", ["apgd", "square"])
@pytest.mark.parametrize("kind", ["fcos", "two stages"])
def test_a_detector_has_its_own_loss_to_follow(kind: str, attack: str) -> None:
    """Also where the attack asks for no gradient, and compares a margin that a detector does not have."""
    batch = Batch(images(2, 3, 64, 64, dtype=torch.float32), TRUTHS, ["0", "1"], LEVEL8)
    share = zero_gradients(AttackBench(plainly(detector(kind)), batch, [0, 1], 2), settings(attack, 4)).number
    assert share is not None
    assert share < 0.5


@pytest.mark.parametrize(("sharpness", "certain"), [(0.0002, False), (50.0, True)])
def test_probabilities_of_0_and_1(sharpness: float, certain: bool) -> None:
    network = nn.Sequential(linear(sharpness).module, nn.Softmax(1))
    found = clamped(bench(Classifier(Normalized(nn.Identity(), network, Logits("softmax", binary=False)), "softmax", 2)))
    assert (found.number, found.sentence is not None) == (float(certain), certain)
    assert clamped(bench(linear())).number is None
