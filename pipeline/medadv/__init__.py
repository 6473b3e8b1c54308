"""Adversarial medical datasets that stay adversarial after they are stored."""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from medadv.training.boxes import BoxesToTensorAxesd, BoxesToXFirstd
    from medadv.training.collate import collate
    from medadv.training.dataset import CorpusDataset
    from medadv.training.in_memory import AdversarialPerturbd, as_victim, attack
    from medadv.training.monai_reader import CorpusReader, datalist
    from medadv.training.sampler import CorpusSampler
    from medadv.training.sampling import BalancedSampler

__all__ = [
    "AdversarialPerturbd",
    "BalancedSampler",
    "BoxesToTensorAxesd",
    "BoxesToXFirstd",
    "CorpusDataset",
    "CorpusReader",
    "CorpusSampler",
    "as_victim",
    "attack",
    "collate",
    "datalist",
]

# Public name -> module that defines it. Imported on first use (PEP 562): `medadv --help` must not wait for torch.
_HOMES = {
    "AdversarialPerturbd": "training.in_memory",
    "BalancedSampler": "training.sampling",
    "BoxesToTensorAxesd": "training.boxes",
    "BoxesToXFirstd": "training.boxes",
    "CorpusDataset": "training.dataset",
    "CorpusReader": "training.monai_reader",
    "CorpusSampler": "training.sampler",
    "as_victim": "training.in_memory",
    "attack": "training.in_memory",
    "collate": "training.collate",
    "datalist": "training.monai_reader",
}


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_HOMES[name]}"), name)


def __dir__() -> list[str]:
    return sorted(__all__)
