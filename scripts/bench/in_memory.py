#!/usr/bin/env python3
"""Train with attacks in memory in every step, for `hardening.command`: what renewed corpora are held against, by the same loop.

    medadv harden SPEC --trust-code --set hardening.generations=1 --set 'hardening.command=[python, scripts/bench/in_memory.py,
      --spec, SPEC, --corpus, "{corpus}", --weights, "{weights}", --out, "{out}", --mode, "{mode}", --epochs, "40"]'

Each batch of the corpus's clean images is attacked with the weights of the moment, by the first attack of the spec, whose epsilon rises
over the first half of the epochs as it does over generations. With as many steps of attack and as many epochs, both pay as many passes.
"""

import argparse
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch

from medadv.hardening.cards import write_weights
from medadv.hardening.flips import Flips, flip_axes
from medadv.hardening.training import Generations, Trainee
from medadv.prepare.settings import resolve_device
from medadv.spec.attack import AttackSettings
from medadv.training.dataset import CorpusDataset
from medadv.training.in_memory import attack
from medadv.victims.importers.resolve import read_spec
from medadv.victims.loading import VictimRequest


class InMemory(Trainee):
    """A model whose every batch is attacked before it is seen."""

    settings_of_attack: AttackSettings | None = None
    unit = "level8"

    def seen(self, batch: Mapping[str, Any]) -> Mapping[str, Any]:
        """The batch with attacked images, or as it is for the control."""
        if self.settings_of_attack is None:
            return batch
        # In evaluation mode while it is attacked, and in training mode again afterwards.
        return {**batch, "image": attack(self.model, batch, self.settings_of_attack, unit=self.unit)}


def main() -> None:
    """Train for so many epochs, and write the average."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    for name in ("spec", "corpus", "weights", "out"):
        parser.add_argument(f"--{name}", type=Path, required=True)
    parser.add_argument("--mode", choices=("adversarial", "clean"), required=True)
    parser.add_argument("--epochs", type=int, required=True)
    parser.add_argument("--trust-code", action="store_true")
    arguments = parser.parse_args()
    spec, _ = read_spec(arguments.spec, trust_code=arguments.trust_code)
    settings = spec.hardening
    if settings is None:
        parser.error("the spec has no section hardening")
    if settings.loss != "adversarial" or settings.share != 1:
        parser.error("every image is attacked here, and the loss is the task's: leave hardening.loss and hardening.share out")
    # The rise of epsilon is over epochs here, and what averages there averages here.
    rising = settings.model_copy(update={"generations": arguments.epochs, "command": None})
    torch.set_num_threads(settings.threads or spec.execution.threads)
    dataset = CorpusDataset(arguments.corpus, mode="clean", seed=settings.seed)
    image, unit = dataset[0]["image"], dataset.manifest.data.unit
    dataset.transform = Flips(flip_axes(settings.flips, spec.data.modality))
    victim = spec.victim.model_copy(update={"weights": str(arguments.weights.resolve()), "weights_key": None})
    base, device = arguments.spec.resolve().parent, torch.device(resolve_device(spec.execution.device))
    request = VictimRequest(victim, spec.data.task, base, arguments.trust_code, dataset.manifest.x_first)
    trainee = InMemory(request.load(device, tuple(image.shape)).scored, rising, device)
    trainee.unit = unit
    data = Generations([dataset], settings.seed)
    first = next(iter(spec.attacks.values()))
    for epoch in range(arguments.epochs):
        data.set_epoch(epoch)
        if arguments.mode == "adversarial":
            trainee.settings_of_attack = rising.generation_attack(epoch + 1, first)
        trainee.train_epoch(data, None, lambda done, total: None)
        print(f"epoch {epoch + 1}: loss {trainee.losses[-1]:.4f}", flush=True)
    write_weights(arguments.out, trainee.weights())


if __name__ == "__main__":
    main()
