"""The binarization test: passed by an attack that sees honest gradients, failed by one that sees none or goes no way."""

from typing import Any

import numpy as np
import pytest
import torch
from tests.attacks.attack_cases import LEVEL8, images, segmenter, settings
from tests.conftest import plainly
from torch import Tensor, nn

from medadv.batches.batch import Batch
from medadv.common.record import plain
from medadv.evaluate.binarization import PASSING, _plane, binarization
from medadv.evaluate.last_layer import Features, last_linear
from medadv.spec.attack import AttackSettings
from medadv.victims.tasks.classification import Classifier


class Scaled(nn.Module):
    """Grey levels to about [-1, 1]; rounded to grey levels before where asked for, as a defence that hides its gradient does."""

    def __init__(self, rounded: bool = False) -> None:
        super().__init__()
        self.rounded = rounded

    def forward(self, x: Tensor) -> Tensor:
        return ((x.round() if self.rounded else x) - 127.5) / 127.5


def network(rounded: bool = False) -> Classifier:
    torch.manual_seed(0)
    layers = [Scaled(rounded), nn.Conv2d(3, 16, 3, stride=2, padding=1), nn.ReLU(), nn.Conv2d(16, 16, 3, stride=2, padding=1), nn.ReLU()]
    return Classifier(nn.Sequential(*layers, nn.Flatten(), nn.Linear(16 * 64, 3)).eval(), "softmax", 3)


def batch(count: int = 6, region: Tensor | None = None) -> Batch:
    drawn = images(count, 3, 32, 32, dtype=torch.float32)
    return Batch(drawn, [np.asarray(0)] * count, [str(k) for k in range(count)], LEVEL8, region)


PGD = settings("pgd", 8, step=2, steps=10)


def test_an_attack_that_sees_the_gradient_finds_what_is_there() -> None:
    found = binarization(plainly(network()), batch(), PGD, range(6))
    assert (found.samples, found.left_out, found.not_done) == (6, 0, None)
    assert found.success == 1
    assert found.random_success is not None
    assert found.random_success < 0.5
    assert found.warnings == []
    assert plain(found)["success"] == 1


@pytest.mark.parametrize(
    ("rounded", "attack"),
    [(True, PGD), (False, settings("pgd", 8, step=1, steps=1, random_start=False)), (False, settings("bim", 64, step=1, steps=2))],
)
def test_an_attack_that_sees_none_or_goes_nowhere_does_not(rounded: bool, attack: AttackSettings) -> None:
    found = binarization(plainly(network(rounded)), batch(), attack, range(6))
    assert found.samples == 6
    assert found.success is not None
    assert found.success < PASSING
    assert any("too weak" in text for text in found.warnings)


@pytest.mark.parametrize("changes", [{}, {"restarts": 3}, {"loss": "margin"}, {"loss": "dlr"}], ids=str)
def test_an_attack_on_more_classes_is_tried_on_two(changes: dict[str, Any]) -> None:
    """The victim has three classes; the problem that is known to be solvable has two, of which one is wrong, and no ratio of logits."""
    found = binarization(plainly(network()), batch(), settings("apgd", 8, steps=10, target_classes=2, **changes), range(6))
    assert (found.samples, found.success, found.warnings) == (6, 1, [])


def test_the_smallest_epsilon_and_a_region() -> None:
    found = binarization(plainly(network()), batch(), settings("pgd", 1, steps=10), range(6))
    assert (found.samples, found.success) == (6, 1)
    half = torch.zeros(6, 1, 32, 32)
    half[..., :16] = 1
    assert binarization(plainly(network()), batch(region=half), PGD, range(6)).success == 1
    # Where nothing may be moved there is no boundary point to tell from the image.
    nowhere = binarization(plainly(network()), batch(region=torch.zeros(6, 1, 32, 32)), PGD, range(6))
    assert (nowhere.samples, nowhere.left_out, nowhere.success) == (0, 6, None)
    assert nowhere.not_done is not None


def test_seeds_decide_and_the_model_is_left_alone() -> None:
    victim = network()
    before = {name: value.clone() for name, value in victim.module.state_dict().items()}
    weak = settings("pgd", 8, step=1, steps=2)
    results = [binarization(plainly(victim), batch(), weak, seeds, samples=4) for seeds in (range(6), range(6), range(10, 16))]
    assert results[0] == results[1]
    assert results[0].samples == 4
    # Of a smaller batch each sample has the same problem.
    single = [binarization(plainly(victim), batch().part(slice(k, k + 1)), weak, [k]).success for k in range(4)]
    assert results[0].success == np.mean(np.array(single, float))
    assert all(torch.equal(value, before[name]) for name, value in victim.module.state_dict().items())
    assert not victim.module[-1]._forward_pre_hooks
    assert not victim.module[-1]._forward_hooks


def test_the_last_layer_is_the_one_whose_output_is_the_logits() -> None:
    victim = network()
    layer = last_linear(victim.module, batch().images[:2])
    assert layer is victim.module[-1]
    features = Features(victim.module, layer)(batch().images)
    torch.testing.assert_close(layer(features), victim.forward(batch().images))


@pytest.mark.parametrize(
    "module",
    [
        nn.Sequential(nn.Flatten(), nn.Linear(3072, 3), nn.Softmax(1)),
        nn.Sequential(nn.Conv2d(3, 3, 1), nn.AdaptiveAvgPool2d(1), nn.Flatten()),
    ],
)
def test_where_no_linear_layer_answers_it_is_not_done(module: nn.Module) -> None:
    found = binarization(plainly(Classifier(module, "softmax", 3)), batch(), PGD, range(6))
    assert (found.success, found.not_done) == (None, "no linear layer answers the logits")


def test_it_is_for_classifiers_and_whole_epsilons() -> None:
    assert "segmentation" in (binarization(plainly(segmenter(2)), batch(), PGD, range(6)).not_done or "")
    assert "epsilon" in (binarization(plainly(network()), batch(), settings("pgd", 0.5), range(6)).not_done or "")
    assert binarization(plainly(network()), batch().part(slice(0)), PGD, []).not_done is not None


def test_the_plane_lies_next_to_the_boundary_point() -> None:
    inner, boundary = np.random.default_rng(0).normal(0, 1, (20, 40)), np.full((1, 40), 3.0)
    plane = _plane(np.concatenate([inner, boundary]))
    assert plane is not None
    weight, bias = plane
    assert float((inner @ weight + bias).max()) == pytest.approx(-0.999)
    assert float((boundary @ weight + bias)[0]) == pytest.approx(0.001)
    # What is the same cannot be told apart.
    assert _plane(np.concatenate([inner, inner[:1]])) is None
