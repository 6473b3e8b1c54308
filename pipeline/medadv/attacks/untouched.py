"""How is a network left as it was found? Evaluation mode and frozen parameters while an attack or a scoring runs."""

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import nn

from medadv.common.machine import repeatable


def set_evaluation(module: nn.Module) -> None:
    """Evaluation mode for every part. Exported programs, whose mode was fixed on export, refuse `eval()`."""
    for part in module.modules():
        part.training = False


@contextmanager
def untouched(module: nn.Module) -> Iterator[None]:
    """Evaluation mode, frozen parameters and repeatable products for a while; all of it, and the global generators, are put back."""
    modes = [(part, part.training) for part in module.modules()]
    frozen = [(parameter, parameter.requires_grad) for parameter in module.parameters()]
    devices = [torch.cuda.current_device()] if torch.cuda.is_initialized() else []
    # The caller may have switched gradients off; an attack needs them all the same.
    with torch.random.fork_rng(devices=devices), torch.enable_grad(), repeatable():
        try:
            set_evaluation(module)
            for parameter, _ in frozen:
                parameter.requires_grad_(False)
            yield
        finally:
            for parameter, needed in frozen:
                parameter.requires_grad_(needed)
            for part, training in modes:
                part.training = training
