"""Networks of nnU-Net: those of dynamic_network_architectures, which is there where someone installed it."""

import importlib
from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

from torch import nn

from medadv.common.errors import SpecError, first_line

PACKAGE = "dynamic_network_architectures"
NETWORKS = ("PlainConvUNet", "ResidualEncoderUNet")
PARTS: Mapping[str, tuple[str, ...]] = {
    "conv_op": ("Conv2d", "Conv3d"),
    "norm_op": ("InstanceNorm2d", "InstanceNorm3d", "BatchNorm2d", "BatchNorm3d"),
    "dropout_op": ("Dropout", "Dropout2d", "Dropout3d"),
    "nonlin": ("LeakyReLU", "ReLU", "PReLU", "ELU", "GELU", "SiLU", "Mish"),
    "block": ("BasicBlockD", "BottleneckD"),
}
"""Arguments that are classes, and the classes that each may be. Plans name them by their import path, of which the last part counts."""


def nnunet_network(name: str) -> Callable[..., nn.Module] | None:
    """A network that nnU-Net's plans name, by its class; classes among its arguments are strings, such as `torch.nn.LeakyReLU`.

    It answers one tensor of logits: deep supervision is for training, and its heads stay among the weights.
    """
    known = {each.lower(): each for each in NETWORKS}
    if name.lower() not in known:
        return None
    return partial(_built, getattr(_library("architectures.unet", name), known[name.lower()]))


def _built(network: Callable[..., nn.Module], **arguments: Any) -> nn.Module:
    resolved = {key: _part(key, value) if key in PARTS else value for key, value in arguments.items()}
    try:
        return network(**{**resolved, "deep_supervision": False})
    except Exception as error:  # the package looks at little of what it is given, and meets the rest as it goes
        raise ValueError(first_line(error)) from error


def _part(argument: str, name: Any) -> Any:
    """The class that a string names.  Raises ValueError."""
    if name is None:
        return None
    module, _, last = str(name).rpartition(".")
    # Nothing is imported by a name that a file gives: the path has to be one of torch or of the package, and the class one of a few.
    home = PACKAGE if argument == "block" else "torch.nn"
    if last not in PARTS[argument] or not (module == home or module.startswith(f"{home}.")):
        raise ValueError(f"{argument}={name!r} is none of {', '.join(PARTS[argument])} of {home}")
    return getattr(_library("building_blocks.residual", last), last) if argument == "block" else getattr(nn, last)


def _library(module: str, wanted: str) -> Any:
    try:
        return importlib.import_module(f"{PACKAGE}.{module}")
    except ImportError:
        raise SpecError(f"network 'nnunet:{wanted}' needs {PACKAGE}: pip install 'medadv[nnunet]'") from None
