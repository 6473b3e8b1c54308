"""The same L-infinity PGD from other libraries, without random start. Each takes images in [0, 1]; the result is rounded to levels."""

import warnings
from collections.abc import Callable
from typing import Any

import torch
from attack_victims import Case
from torch import Tensor, nn

from medadv.spec.attack import AttackSettings


class UnitRange(nn.Module):
    """The victim for libraries that want [0, 1]; its parameters ask for gradients, as they do when a model is loaded."""

    def __init__(self, module: nn.Module) -> None:
        super().__init__()
        self.module = module

    def forward(self, x: Tensor) -> Any:
        return self.module(x * 255)


def _rounded(adversarial: Tensor, images: Tensor) -> Tensor:
    return (adversarial * 255 - images).round()


def plain_loop(case: Case, epsilon: int, steps: int) -> Callable[[], Tensor]:
    """What one would write by hand: the victim as loaded, no library."""
    victim = case.victim()
    chosen = AttackSettings.model_validate({"attack": "pgd", "epsilon": epsilon, "step": 1, "steps": steps})

    def attack() -> Tensor:
        delta = torch.zeros_like(case.images)
        for _ in range(steps):
            delta.requires_grad_()
            loss = victim.deviation(victim.forward(case.images + delta), case.targets, chosen).sum()
            (gradient,) = torch.autograd.grad(loss, delta)
            delta = (delta.detach() + gradient.sign()).clamp(-epsilon, epsilon)
            delta = (case.images + delta).clamp(0, 255) - case.images
        return delta

    return attack


def torchattacks(case: Case, epsilon: int, steps: int) -> Callable[[], Tensor]:
    """Kim's torchattacks."""

    def attack() -> Tensor:
        import torchattacks as library

        made = library.PGD(_unit(case), epsilon / 255, 1 / 255, steps, random_start=False)
        return _rounded(made(case.images / 255, _labels(case)), case.images)

    return attack


def foolbox(case: Case, epsilon: int, steps: int) -> Callable[[], Tensor]:
    """Rauber's foolbox."""

    def attack() -> Tensor:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            import foolbox as library

            model = library.PyTorchModel(_unit(case), bounds=(0, 1), device=case.images.device)
            made = library.attacks.LinfPGD(abs_stepsize=1 / 255, steps=steps, random_start=False)
            _, found, _ = made(model, case.images / 255, _labels(case), epsilons=epsilon / 255)
        return _rounded(found, case.images)

    return attack


def art(case: Case, epsilon: int, steps: int) -> Callable[[], Tensor]:
    """IBM's adversarial-robustness-toolbox."""

    def attack() -> Tensor:
        from art.attacks.evasion import ProjectedGradientDescentPyTorch
        from art.estimators.classification import PyTorchClassifier

        labels = _labels(case)
        with torch.no_grad():
            classes = _unit(case)(case.images / 255).shape[1]
        kind = "gpu" if case.images.is_cuda else "cpu"
        shape = tuple(case.images.shape[1:])
        model = PyTorchClassifier(
            _unit(case), nn.CrossEntropyLoss(), input_shape=shape, nb_classes=classes, clip_values=(0, 1), device_type=kind
        )
        made = ProjectedGradientDescentPyTorch(
            model, eps=epsilon / 255, eps_step=1 / 255, max_iter=steps, num_random_init=0, batch_size=len(labels), verbose=False
        )
        found = made.generate((case.images / 255).cpu().numpy(), y=labels.cpu().numpy())
        return _rounded(torch.from_numpy(found).to(case.images), case.images)

    return attack


def adversarial_library(case: Case, epsilon: int, steps: int) -> Callable[[], Tensor]:
    """Rony's adversarial-library."""

    def attack() -> Tensor:
        from adv_lib.attacks import pgd_linf

        options = {"steps": steps, "random_init": False, "absolute_step_size": 1 / 255}
        found = pgd_linf(_unit(case), case.images / 255, _labels(case), epsilon / 255, **options)
        return _rounded(found, case.images)

    return attack


def _unit(case: Case) -> nn.Module:
    model = UnitRange(case.victim().module).eval()
    for parameter in model.parameters():
        parameter.requires_grad_(True)
    return model


def _labels(case: Case) -> Tensor:
    if not isinstance(case.targets, Tensor):
        raise ValueError("takes class indices only")
    return case.targets.long()


PEERS: dict[str, Callable[[Case, int, int], Callable[[], Tensor]]] = {
    "plain loop": plain_loop,
    "torchattacks": torchattacks,
    "foolbox": foolbox,
    "ART": art,
    "adversarial-library": adversarial_library,
}
