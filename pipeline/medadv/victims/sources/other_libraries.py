"""Networks of timm and segmentation-models-pytorch, which are there where someone installed them."""

import importlib
from collections.abc import Callable
from functools import partial
from typing import Any

from torch import nn

from medadv.common.errors import SpecError


def timm_network(name: str) -> Callable[..., nn.Module] | None:
    """A model of timm by the name that `timm.create_model` takes; no weights are fetched."""
    timm = _library("timm", f"timm:{name}")
    return partial(timm.create_model, name, pretrained=False) if timm.is_model(name) else None


def smp_network(name: str) -> Callable[..., nn.Module] | None:
    """An architecture of segmentation-models-pytorch by its class (`Unet`, `FPN`, …); no encoder weights are fetched."""
    models: Any = _library("segmentation_models_pytorch", f"smp:{name}")
    known = {model.__name__.lower(): model for model in vars(models).values() if isinstance(model, type) and issubclass(model, nn.Module)}
    return partial(known[name.lower()], encoder_weights=None) if name.lower() in known else None


def _library(module: str, network: str) -> Any:
    try:
        return importlib.import_module(module)
    except ImportError:
        raise SpecError(f"network {network!r} needs {module.replace('_', '-')}: pip install 'medadv[networks]'") from None
