"""Adversarial medical datasets that stay adversarial after they are stored."""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from medadv.corpus import CorpusDataset, collate

__all__ = ["CorpusDataset", "collate"]

# Public name -> module that defines it. Imported on first use (PEP 562): `medadv --help` must not wait for torch.
_HOMES = {"CorpusDataset": "corpus", "collate": "corpus"}


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_HOMES[name]}"), name)


def __dir__() -> list[str]:
    return sorted(__all__)
