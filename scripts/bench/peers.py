#!/usr/bin/env python3
"""How strong is each library's attack at equal passes, before and after its result is stored in whole grey levels? peers.py CORPUS

    scripts/bench/peers.py CORPUS --epsilon 1 [--steps 20] [--images 32] [--weights FILE]

CORPUS is one of photographs with classes, such as `medadv-demo/corpora/fundus`; its stored clean images are attacked on its own victim.
Every library gets the same network, ball, step (a quarter of epsilon, at least one level) and number of steps, and no random start of PGD.
What it finds is scored three times: as the floats it gave, rounded to the nearest grey level, and cut off to whole levels, as a cast to
8 bits does. Passes are counted at the network, images times calls. Libraries that are not installed are said and left out.
"""

import argparse
import importlib.util
import sys
import time
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from evaluate_peers import Unit, batches
from torch import Tensor, nn

from medadv.batches.attacking import attacked_batch, start_seeds
from medadv.batches.batch import Batch
from medadv.corpus.folder import Workspace
from medadv.corpus.manifest import read_manifest
from medadv.evaluate.measure import read_shape
from medadv.evidence.published import load_published_victim
from medadv.spec.attack import AttackSettings
from medadv.victims.victim import Victim


class Counter:
    """Counts the images that pass a network, forward and backward, whoever calls it."""

    def __init__(self, *modules: nn.Module) -> None:
        self.forwards = self.backwards = 0
        for module in set(modules):
            module.register_forward_hook(self._forward)

    def _forward(self, module: nn.Module, inputs: tuple[Tensor, ...], output: Tensor) -> None:
        self.forwards += len(inputs[0])
        if output.requires_grad:
            output.register_hook(self._backward)

    def _backward(self, gradient: Tensor) -> None:
        self.backwards += len(gradient)


@dataclass(frozen=True)
class Case:
    """images: (n, C, H, W) in [0, 1].  epsilon, step: likewise."""

    model: Unit
    images: Tensor
    labels: Tensor
    epsilon: float
    step: float
    steps: int


Attack = Callable[[Case], Tensor]


def torchattacks_pgd(case: Case) -> Tensor:
    """Kim's torchattacks."""
    import torchattacks

    return torchattacks.PGD(case.model, case.epsilon, case.step, case.steps, random_start=False)(case.images, case.labels)


def torchattacks_apgd(case: Case) -> Tensor:
    """The same library's copy of APGD."""
    import torchattacks

    return torchattacks.APGD(case.model, eps=case.epsilon, steps=case.steps, n_restarts=1, seed=0, loss="ce")(case.images, case.labels)


def foolbox_pgd(case: Case) -> Tensor:
    """Rauber's foolbox."""
    import foolbox

    attack = foolbox.attacks.LinfPGD(abs_stepsize=case.step, steps=case.steps, random_start=False)
    model = foolbox.PyTorchModel(case.model, bounds=(0, 1), device="cpu")
    return attack(model, case.images, case.labels, epsilons=case.epsilon)[1]


def art_pgd(case: Case) -> Tensor:
    """The Adversarial Robustness Toolbox."""
    from art.attacks.evasion import ProjectedGradientDescentPyTorch
    from art.estimators.classification import PyTorchClassifier

    shape, classes = tuple(case.images.shape[1:]), case.model.judge.classes
    options = {"input_shape": shape, "nb_classes": classes, "clip_values": (0, 1), "device_type": "cpu"}
    model = PyTorchClassifier(case.model, nn.CrossEntropyLoss(), **options)
    budget = {"eps": case.epsilon, "eps_step": case.step, "max_iter": case.steps, "num_random_init": 0}
    attack = ProjectedGradientDescentPyTorch(model, **budget, batch_size=len(case.images), verbose=False)
    return torch.from_numpy(attack.generate(case.images.numpy(), y=case.labels.numpy()))


def adv_lib_pgd(case: Case) -> Tensor:
    """Rony's adversarial-library."""
    from adv_lib.attacks import pgd_linf

    options = {"steps": case.steps, "random_init": False, "absolute_step_size": case.step}
    return pgd_linf(case.model, case.images, case.labels, case.epsilon, **options)


def adv_lib_apgd(case: Case) -> Tensor:
    """The same library's APGD."""
    from adv_lib.attacks import apgd

    options = {"norm": float("inf"), "n_iter": case.steps, "n_restarts": 1, "loss_function": "ce"}
    return apgd(case.model, case.images, case.labels, eps=case.epsilon, **options)


def secml_pgd(case: Case) -> Tensor:
    """SecML-Torch, its own loop."""
    from secmlt.adv.evasion.pgd import PGDNative
    from secmlt.models.pytorch.base_pytorch_nn import BasePyTorchClassifier
    from torch.utils.data import DataLoader, TensorDataset

    attack = PGDNative("linf", case.epsilon, case.steps, case.step, random_start=False)
    data = DataLoader(TensorDataset(case.images, case.labels), batch_size=len(case.images))
    return torch.cat([found for found, _ in attack(BasePyTorchClassifier(case.model), data)])


def autoattack_apgd(case: Case) -> Tensor:
    """The authors' APGD on cross-entropy, as AutoAttack lets it loose: on images that are right when clean."""
    from pyautoattack import AutoAttack

    adversary = AutoAttack(case.model, attacks=["apgd-ce"], eps=case.epsilon, seed=0, version="custom")
    adversary.verbose = False
    adversary.apgd.n_iter, adversary.apgd.n_restarts = case.steps, 1
    return adversary.run_standard_evaluation(case.images, case.labels, batch_size=len(case.images))[0]


def ours(victim: Victim, batch: Batch, attack: str, epsilon: float, step: float, steps: int) -> Tensor:
    """medadv's, in whole grey levels."""
    given = {"attack": attack, "epsilon": epsilon, "steps": steps}
    # APGD chooses its steps itself.
    settings = AttackSettings.model_validate({**given, "step": step, "random_start": False} if attack == "pgd" else given)
    return attacked_batch(victim, batch, settings, start_seeds(0, batch.ids, attack)).delta.to(batch.images)


PEERS: dict[tuple[str, str], tuple[str, Attack]] = {
    ("torchattacks", "PGD"): ("torchattacks", torchattacks_pgd),
    ("foolbox", "PGD"): ("foolbox", foolbox_pgd),
    ("ART", "PGD"): ("art", art_pgd),
    ("adversarial-library", "PGD"): ("adv_lib", adv_lib_pgd),
    ("secml-torch", "PGD"): ("secmlt", secml_pgd),
    ("torchattacks", "APGD"): ("torchattacks", torchattacks_apgd),
    ("adversarial-library", "APGD"): ("adv_lib", adv_lib_apgd),
    ("AutoAttack", "APGD"): ("pyautoattack", autoattack_apgd),
}
"""(library, attack) -> the module it needs, and how it is called."""


def right(victim: Victim, images: Tensor, batch: Batch) -> int:
    """How many classes are right."""
    answers = victim.scored.predict(images)
    return sum(int(np.array_equal(answer.answer, label)) for answer, label in zip(answers, batch.labels, strict=True))


def main() -> None:
    """Attack with every library, and print a table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("corpus", type=Path)
    parser.add_argument("--epsilon", type=float, default=1, help="grey levels")
    parser.add_argument("--steps", type=int, default=20)
    parser.add_argument("--images", type=int, default=32)
    parser.add_argument("--weights", type=Path, action="append", default=[], help="where the maker's .medadv is not at hand")
    arguments = parser.parse_args()
    warnings.simplefilter("ignore")
    torch.set_num_threads(1)
    manifest = read_manifest(Workspace(arguments.corpus))
    if (manifest.data.task, manifest.data.unit) != ("classification", "level8"):
        parser.error(f"{arguments.corpus} holds {manifest.data.task} in {manifest.data.unit}; give photographs with classes")
    victim = load_published_victim(manifest, Workspace(arguments.corpus), read_shape(arguments.corpus, manifest), arguments.weights, False)
    counter = Counter(victim.scored.module, victim.attacked.module)
    epsilon, step, steps = arguments.epsilon, max(1.0, arguments.epsilon / 4), arguments.steps
    entrants = {("medadv", "PGD"): "pgd", ("medadv", "APGD"): "apgd", **PEERS}
    rows: dict[tuple[str, str], list[float]] = {}
    done = clean = 0
    for batch, _ in batches(arguments.corpus, manifest):
        if done >= arguments.images:
            break
        done += len(batch.images)
        clean += right(victim, batch.images, batch)
        images, labels = batch.images / 255, torch.tensor([int(np.asarray(label)) for label in batch.labels])
        case = Case(Unit(victim.scored, 0, 255).eval(), images, labels, epsilon / 255, step / 255, steps)
        for name, entrant in entrants.items():
            if not isinstance(entrant, str) and importlib.util.find_spec(entrant[0]) is None:
                continue
            counter.forwards = counter.backwards = 0
            start = time.process_time()
            if isinstance(entrant, str):
                found = batch.images + ours(victim, batch, entrant, epsilon, step, steps)
            else:
                found = entrant[1](case).detach().float() * 255
            figures = [time.process_time() - start, counter.forwards, counter.backwards]
            # A library works in fractions of 1: what rounding left outside of the ball is brought back.
            found = found.clamp(batch.images - epsilon, batch.images + epsilon)
            figures += [right(victim, each, batch) for each in (found, found.round(), found.trunc())]
            rows[name] = [before + now for before, now in zip(rows.get(name, [0.0] * 6), figures, strict=True)]
        print(f"{done} images", file=sys.stderr, flush=True)
    missing = sorted({library for (library, _), (module, _) in PEERS.items() if importlib.util.find_spec(module) is None})
    print(f"not installed, left out: {', '.join(missing)}" if missing else "all installed")
    print(f"{done} images, epsilon {epsilon:g}, {steps} steps of {step:g}; clean {clean / done:.3f}")
    print("| library | attack | right, as given | rounded | cut off | forward | backward | passes a second |")
    print("|---|---|---|---|---|---|---|---|")
    for (library, attack), (seconds, forwards, backwards, *rest) in sorted(rows.items(), key=lambda row: row[0][::-1]):
        scores = " | ".join(f"{each / done:.3f}" for each in rest)
        rate = (forwards + backwards) / seconds
        print(f"| {library} | {attack} | {scores} | {forwards / done:.1f} | {backwards / done:.1f} | {rate:.0f} |")


if __name__ == "__main__":
    main()
