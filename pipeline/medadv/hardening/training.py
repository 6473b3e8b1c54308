"""How is a generation trained? A plain loop: batches of a corpus, the loss, a step, the average; and the state that a kill cannot touch."""

import io
import math
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader, Dataset

from medadv.attacks.untouched import set_evaluation
from medadv.common.files import write_file
from medadv.common.hashing import seed_of
from medadv.common.machine import repeatable
from medadv.hardening.losses import batch_loss
from medadv.spec.hardening import HardeningSettings
from medadv.training.collate import collate
from medadv.training.dataset import CorpusDataset
from medadv.victims.inputs.around import networks
from medadv.victims.inputs.normalized import Normalized
from medadv.victims.tasks.answer import Answer
from medadv.victims.victim import TaskModel

GRADIENT_NORM = 5.0
"""Gradients are scaled down to it: a detector's first steps on attacked images may be long."""
MOMENTUM = 0.9


class Trainee:
    """A model in training: what a step changes, and how far it is."""

    def __init__(self, model: TaskModel, settings: HardeningSettings, device: torch.device) -> None:
        self.model, self.network, self.settings, self.device = model, bare_network(model), settings, device
        self.optimizer = _optimizer(model.module, settings)
        self.average = copied(self.network) if settings.averaging else None
        self.epochs = self.steps = 0
        self.losses: list[float] = []
        """Mean of each epoch."""
        self.diverged = False
        """Whether the last epoch left a model whose loss is no number."""

    def train_epoch(self, data: Dataset[Any], beta: float | None, each: Callable[[int, int], None]) -> None:
        """One epoch.  beta: of TRADES, or None.  each: told of the steps done and in all, and may raise.

        What is drawn (order, dropout) follows from seed and epoch alone, so that an epoch that was killed is the same again.
        """
        seed = seed_of("hardening", self.settings.seed, self.epochs) % (1 << 63)
        order, size = torch.Generator().manual_seed(seed), self.settings.batch_size
        # A batch left over is often too small for batch-norm; another epoch has its samples elsewhere.
        loader = DataLoader(data, size, shuffle=True, drop_last=len(data) >= size, generator=order, collate_fn=collate)  # type: ignore[arg-type]
        losses = []
        with torch.random.fork_rng(), repeatable():
            torch.manual_seed(seed)
            self._training_mode()
            for number, batch in enumerate(loader):
                each(number, len(loader))
                loss = batch_loss(self.model, self.seen(batch), self.device, beta)
                self.optimizer.zero_grad()
                loss.backward()
                nn.utils.clip_grad_norm_(self.model.module.parameters(), GRADIENT_NORM)
                self.optimizer.step()
                self.steps += 1
                self._move_average()
                losses.append(float(loss.detach()))
            set_evaluation(self.model.module)
            # Normalised by its own batch a network may still answer numbers, and none any more by the statistics that it keeps.
            with torch.no_grad():
                asked = float(batch_loss(self.model, batch, self.device, None))
        self.epochs += 1
        self.losses.append(float(np.mean(losses)))
        self.diverged = not (math.isfinite(self.losses[-1]) and math.isfinite(asked))

    def try_batch(self, batch: Mapping[str, Any], beta: float | None) -> None:
        """Whether a loss comes out, and gradients of it, in training mode; raises whatever the network raises."""
        with torch.random.fork_rng(), repeatable():
            self._training_mode()
            batch_loss(self.model, self.seen(batch), self.device, beta).backward()

    def seen(self, batch: Mapping[str, Any]) -> Mapping[str, Any]:
        """What the model sees of a batch: what the corpus holds. Training with attacks in memory makes something else of it."""
        return batch

    def weights(self) -> dict[str, Tensor]:
        """Of the generation: the average where there is one."""
        return self.average if self.average is not None else copied(self.network)

    def trained(self) -> dict[str, Tensor]:
        """Of the model in training itself, which the next corpus is made against."""
        return copied(self.network)

    def save(self, path: Path) -> None:
        """Everything that the next epoch goes on from, in one step."""
        stream = io.BytesIO()
        far = {"epochs": self.epochs, "steps": self.steps, "losses": self.losses}
        weights = {"network": self.network.state_dict(), "average": self.average, "optimizer": self.optimizer.state_dict()}
        torch.save({**far, **weights}, stream)
        write_file(path, stream.getvalue(), mode=0o600)

    def restore(self, path: Path) -> None:
        """The inverse of `save`."""
        state = torch.load(path, map_location=self.device, weights_only=True)
        self.network.load_state_dict(state["network"])
        self.optimizer.load_state_dict(state["optimizer"])
        self.average, self.losses = state["average"], state["losses"]
        self.epochs, self.steps = state["epochs"], state["steps"]

    def _training_mode(self) -> None:
        frozen = self.settings.batch_norm == "frozen"
        for part in self.model.module.modules():
            part.training = not (frozen and isinstance(part, nn.modules.batchnorm._BatchNorm))

    def _move_average(self) -> None:
        if self.average is None:
            return
        # The first steps count more: the average would else hold on to the victim.
        decay = min(self.settings.averaging, (1 + self.steps) / (10 + self.steps))
        for name, value in self.network.state_dict().items():
            if value.is_floating_point():
                self.average[name].lerp_(value, 1 - decay)
            else:
                self.average[name].copy_(value)


class Generations(Dataset[Any]):
    """Several corpora of the same samples as one data set: each sample, each epoch, from any one of them."""

    def __init__(self, corpora: Sequence[CorpusDataset], seed: int) -> None:
        """corpora: which hold the same samples in the same order."""
        self.corpora, self.seed, self.epoch = corpora, seed, 0

    def set_epoch(self, epoch: int) -> None:
        """Draw anew."""
        self.epoch = epoch
        for corpus in self.corpora:
            corpus.set_epoch(epoch)

    def __len__(self) -> int:
        return len(self.corpora[0])

    def __getitem__(self, index: int) -> Any:
        drawn = np.random.default_rng(seed_of("generations", self.seed, self.epoch, index)).integers(len(self.corpora))
        return self.corpora[int(drawn)][index]


def bare_network(model: TaskModel) -> nn.Module:
    """The network as a spec names it, whose weights a file holds: without normalisation, windows, and the choice among its outputs."""
    network = networks(model.module.network if isinstance(model.module, Normalized) else model.module)[0]
    return network.network if isinstance(network, Answer) else network


def _optimizer(module: nn.Module, settings: HardeningSettings) -> torch.optim.Optimizer:
    parameters = [parameter for parameter in module.parameters() if parameter.requires_grad]
    if settings.optimizer == "adamw":
        return torch.optim.AdamW(parameters, settings.rate, weight_decay=settings.weight_decay)
    return torch.optim.SGD(parameters, settings.rate, MOMENTUM, weight_decay=settings.weight_decay, nesterov=True)


def copied(network: nn.Module) -> dict[str, Tensor]:
    """Its weights by its own names, each a tensor of its own."""
    return {name: value.detach().clone() for name, value in network.state_dict().items()}
