"""With weight 0 the engine is PGD and its relatives: equal to torchattacks and foolbox on the lattice, in fp64."""

import warnings
from collections.abc import Callable

import pytest
import torch
from tests.attacks.attack_cases import LEVEL8, classifier, images, labels, segmenter, settings
from torch import Tensor, nn

from medadv.attacks.engine import perturb
from medadv.attacks.objective import Objective

EPSILON, STEPS = 4, 7


class UnitRange(nn.Module):
    """The victim for libraries that want [0, 1]; `shape` brings flattened volumes back to their form."""

    def __init__(self, module: nn.Module, shape: tuple[int, ...] | None = None) -> None:
        super().__init__()
        self.module, self.shape = module, shape

    def forward(self, x: Tensor) -> Tensor:
        return self.module((x if self.shape is None else x.reshape(-1, *self.shape)) * 255)


def ours(victim: Objective, batch: Tensor, truth: Tensor, attack: str) -> Tensor:
    chosen = settings(attack, EPSILON, **({} if attack == "fgsm" else {"steps": STEPS, "random_start": False}))
    return perturb(victim, batch, truth, chosen, lattice=LEVEL8, seeds=[0] * len(batch))


def theirs(attack: str, model: nn.Module, batch: Tensor, truth: Tensor) -> Tensor:
    import torchattacks

    build: dict[str, Callable[[], torchattacks.attack.Attack]] = {
        "pgd": lambda: torchattacks.PGD(model, EPSILON / 255, 1 / 255, STEPS, random_start=False),
        "bim": lambda: torchattacks.BIM(model, EPSILON / 255, 1 / 255, STEPS),
        "fgsm": lambda: torchattacks.FGSM(model, EPSILON / 255),
        "mifgsm": lambda: torchattacks.MIFGSM(model, EPSILON / 255, 1 / 255, STEPS, decay=1.0),
        "nifgsm": lambda: torchattacks.NIFGSM(model, EPSILON / 255, 1 / 255, STEPS, decay=1.0),
    }
    return ((build[attack]()(batch / 255, truth) - batch / 255) * 255).round().to(torch.int16)


def foolboxes(attack: str, model: nn.Module, batch: Tensor, truth: Tensor) -> Tensor:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # foolbox imports scipy names that are on their way out
        import foolbox

        wrapped = foolbox.PyTorchModel(model, bounds=(0, 1))
        kinds = foolbox.attacks
        build = {
            "pgd": lambda: kinds.LinfPGD(abs_stepsize=1 / 255, steps=STEPS, random_start=False),
            "bim": lambda: kinds.LinfBasicIterativeAttack(abs_stepsize=1 / 255, steps=STEPS, random_start=False),
            "fgsm": lambda: kinds.LinfFastGradientAttack(random_start=False),
        }
        _, found, _ = build[attack]()(wrapped, batch / 255, truth, epsilons=EPSILON / 255)
    return ((found - batch / 255) * 255).round().to(torch.int16)


@pytest.mark.parametrize("attack", ["pgd", "bim", "fgsm", "mifgsm", "nifgsm"])
def test_classification_equals_torchattacks(attack: str) -> None:
    victim, batch, truth = classifier(), images(4, 3, 20, 24), labels(4, 4)
    expected = theirs(attack, UnitRange(victim.module).eval(), batch, truth)
    assert expected.abs().max() == EPSILON
    assert torch.equal(ours(victim, batch, truth, attack), expected)


@pytest.mark.parametrize("attack", ["pgd", "bim", "fgsm"])
def test_classification_equals_foolbox(attack: str) -> None:
    victim, batch, truth = classifier(seed=1), images(4, 3, 20, 24, seed=1), labels(4, 4)
    for parameter in victim.module.parameters():
        parameter.requires_grad_(False)
    assert torch.equal(ours(victim, batch, truth, attack), foolboxes(attack, UnitRange(victim.module).eval(), batch, truth))


@pytest.mark.parametrize("attack", ["pgd", "bim", "fgsm", "mifgsm", "nifgsm"])
@pytest.mark.parametrize("spatial", [(18, 22), (10, 12, 9)])
def test_segmentation_equals_torchattacks(attack: str, spatial: tuple[int, ...]) -> None:
    victim, batch, truth = segmenter(len(spatial)), images(2, 1, *spatial), labels(2, 3, *spatial)
    # torchattacks' MI-FGSM and NI-FGSM average over three axes whatever the image has: volumes go in with theirs folded into three.
    flat = batch.reshape(2, 1, spatial[0], -1)
    expected = theirs(attack, UnitRange(victim.module, (1, *spatial)), flat, truth).reshape(batch.shape)
    assert torch.equal(ours(victim, batch, truth, attack), expected)
